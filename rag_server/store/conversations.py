"""Conversations and their items, for whoever's key made them."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from rag_server.errors import InvalidRequestError, NotFoundError
from rag_server.protocols import Json
from rag_server.store.database import Database
from rag_server.store.dialogue_schema import conversation_items, conversations
from rag_server.store.ids import new_id
from rag_server.store.ownership import owned, owner_of
from rag_server.store.paging import page_of
from rag_server.store.seals import seal, seal_of
from rag_server.types import Access, Conversation, Page

# More is not read by any engine, and would be read from the disk for each answer.
MAX_CONVERSATION_ITEMS = 10_000

items = conversation_items


class Conversations:
    """The tables of conversations. An item is a JSON object with an `id`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, metadata: Mapping[str, str], new_items: Sequence[Json], access: Access) -> Conversation:
        """Make a conversation that begins with these items."""
        values = {"id": new_id("conv_"), "tenant": access.tenant, "owner": owner_of(access)}
        with self._database.write() as connection:
            created = {**values, "created_at": int(time.time()), "metadata": dict(metadata)}
            connection.execute(insert(conversations).values(created))
            seal(connection, conversations, conversations.c.id == values["id"])
            append_items(connection, values["id"], new_items)
            return _conversation(_get(connection, values["id"], access))

    def get(self, conversation_id: str, access: Access) -> Conversation:
        """Return the conversation of that id.

        Raises:
            NotFoundError: There is none, or it is another key's.
        """
        with self._database.read() as connection:
            return _conversation(_get(connection, conversation_id, access))

    def set_metadata(self, conversation_id: str, metadata: Mapping[str, str], access: Access) -> Conversation:
        """Replace the metadata; return the conversation.

        Raises:
            NotFoundError: There is no conversation of that id, or it is another key's.
        """
        with self._database.write() as connection:
            _get(connection, conversation_id, access)
            this = conversations.c.id == conversation_id
            connection.execute(update(conversations).where(this).values({"metadata": dict(metadata)}))
            seal(connection, conversations, this)
            return _conversation(_get(connection, conversation_id, access))

    def delete(self, conversation_id: str, access: Access) -> None:
        """Remove a conversation with its items; responses that were made in it stay.

        Raises:
            NotFoundError: There is no conversation of that id, or it is another key's.
        """
        with self._database.write() as connection:
            _get(connection, conversation_id, access)
            connection.execute(delete(items).where(items.c.conversation_id == conversation_id))
            connection.execute(delete(conversations).where(conversations.c.id == conversation_id))

    def add(self, conversation_id: str, new_items: Sequence[Json], access: Access) -> None:
        """Put items at the end of a conversation, all of them or none.

        Raises:
            NotFoundError: There is no conversation of that id, or it is another key's.
            InvalidRequestError: It would become too long.
        """
        with self._database.write() as connection:
            _get(connection, conversation_id, access)
            append_items(connection, conversation_id, new_items)

    def items(self, conversation_id: str, access: Access) -> list[Json]:
        """Return all items of a conversation, the oldest first.

        Raises:
            NotFoundError: There is no conversation of that id, or it is another key's.
        """
        with self._database.read() as connection:
            _get(connection, conversation_id, access)
            query = select(items.c.item).where(items.c.conversation_id == conversation_id)
            return list(connection.execute(query.order_by(items.c.key)).scalars())

    def page(self, conversation_id: str, access: Access, page: Page) -> tuple[list[Json], bool]:
        """Return a page of the items of a conversation, and whether there are more.

        Raises:
            NotFoundError: There is no conversation of that id, or it is another key's.
            InvalidRequestError: The page begins at an item that is not there.
        """
        with self._database.read() as connection:
            _get(connection, conversation_id, access)
            query = select(items.c.item).where(items.c.conversation_id == conversation_id)
            rows, has_more = page_of(connection, query, page, id_=items.c.id, position=[items.c.key])
        return [row.item for row in rows], has_more

    def item(self, conversation_id: str, item_id: str, access: Access) -> Json:
        """Return one item.

        Raises:
            NotFoundError: It or the conversation is not there, or is another key's.
        """
        with self._database.read() as connection:
            _get(connection, conversation_id, access)
            return _item(connection, conversation_id, item_id)

    def delete_item(self, conversation_id: str, item_id: str, access: Access) -> Conversation:
        """Remove one item; return the conversation.

        Raises:
            NotFoundError: It or the conversation is not there, or is another key's.
        """
        with self._database.write() as connection:
            conversation = _conversation(_get(connection, conversation_id, access))
            _item(connection, conversation_id, item_id)
            connection.execute(delete(items).where(items.c.conversation_id == conversation_id, items.c.id == item_id))
        return conversation


def append_items(connection: Connection, conversation_id: str, new_items: Sequence[Json]) -> None:
    """Put items at the end of a conversation.

    Raises:
        NotFoundError: It was deleted meanwhile.
        InvalidRequestError: It would become too long.
    """
    if connection.execute(select(conversations.c.id).where(conversations.c.id == conversation_id)).first() is None:
        raise not_found(conversation_id)
    of_this = items.c.conversation_id == conversation_id
    count = connection.execute(select(func.count()).select_from(items).where(of_this)).scalar_one()
    if count + len(new_items) > MAX_CONVERSATION_ITEMS:
        raise InvalidRequestError(
            f"a conversation has at most {MAX_CONVERSATION_ITEMS:,} items; delete some of them, or begin another one",
            "conversation",
        )
    rows = [{"conversation_id": conversation_id, "id": item["id"], "item": item} for item in new_items]
    if rows:
        connection.execute(insert(items), [{**row, "checksum": seal_of(items, row)} for row in rows])


def not_found(conversation_id: str) -> NotFoundError:
    """Return the error for a conversation that is not there."""
    return NotFoundError(f"there is no conversation {conversation_id!r}")


def _get(connection: Connection, conversation_id: str, access: Access) -> Row[Any]:
    query = select(conversations).where(conversations.c.id == conversation_id, owned(conversations, access))
    row: Row[Any] | None = connection.execute(query).one_or_none()
    if row is None:
        raise not_found(conversation_id)
    return row


def _item(connection: Connection, conversation_id: str, item_id: str) -> Json:
    query = select(items.c.item).where(items.c.conversation_id == conversation_id, items.c.id == item_id)
    found: Json | None = connection.execute(query).scalar_one_or_none()
    if found is None:
        raise NotFoundError(f"there is no item {item_id!r} in the conversation {conversation_id!r}")
    return found


def _conversation(row: Row[Any]) -> Conversation:
    return Conversation(row.id, row.created_at, row.metadata)
