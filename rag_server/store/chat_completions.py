"""Chat completions that were to be kept: found again by whoever's key made them, with the messages that led to them."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, exists, insert, select, update

from rag_server.errors import NotFoundError
from rag_server.protocols import Json
from rag_server.store.chat_schema import chat_completion_metadata, chat_completions
from rag_server.store.database import Database
from rag_server.store.ownership import owned, owner_of
from rag_server.store.paging import page_of
from rag_server.store.seals import seal
from rag_server.types import Access, Page

_SELECT = select(chat_completions.c.completion, chat_completions.c.metadata)


class ChatCompletions:
    """The table of stored chat completions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, completion: Json, messages: Sequence[Json], metadata: Mapping[str, str], access: Access) -> None:
        """Keep a completion under its own id."""
        values = {
            "id": completion["id"],
            "tenant": access.tenant,
            "owner": owner_of(access),
            "created_at": int(time.time()),
            "model": str(completion["model"]).replace("\0", ""),
            "completion": completion,
            "messages": list(messages),
            "metadata": dict(metadata),
        }
        with self._database.write() as connection:
            connection.execute(insert(chat_completions).values(values))
            _index_metadata(connection, completion["id"], metadata)
            seal(connection, chat_completions, chat_completions.c.id == completion["id"])

    def page(
        self, access: Access, page: Page, *, model: str | None = None, metadata: Mapping[str, str] | None = None
    ) -> tuple[list[Json], bool]:
        """Return a page of the completions of `access`, oldest first in ascending order, and whether there are more.

        `model` and each entry of `metadata` have to be those of the completion.
        """
        table = chat_completions.c
        query, position = _SELECT.where(owned(chat_completions, access)), [table.created_at, table.id]
        wanted = [_has_metadata(key, value) for key, value in (metadata or {}).items()]
        if model is not None:
            wanted.append(table.model == model)
        with self._database.read() as connection:
            rows, has_more = page_of(connection, query, page, id_=table.id, position=position, where=wanted)
        return [_completion(row) for row in rows], has_more

    def get(self, completion_id: str, access: Access) -> Json:
        """Return a completion with its metadata.

        Raises:
            NotFoundError: There is none of that id (any more), or it is another key's.
        """
        with self._database.read() as connection:
            return _completion(_get(connection, completion_id, access))

    def messages(self, completion_id: str, access: Access) -> list[Json]:
        """Return the messages of the request, as they came.

        Raises:
            NotFoundError: There is no completion of that id (any more), or it is another key's.
        """
        with self._database.read() as connection:
            query = select(chat_completions.c.messages).where(_is(completion_id, access))
            found: list[Json] | None = connection.execute(query).scalar_one_or_none()
        if found is None:
            raise _not_found(completion_id)
        return found

    def set_metadata(self, completion_id: str, metadata: Mapping[str, str], access: Access) -> Json:
        """Replace the metadata; return the completion.

        Raises:
            NotFoundError: There is no completion of that id (any more), or it is another key's.
        """
        table = chat_completions
        with self._database.write() as connection:
            _get(connection, completion_id, access)
            connection.execute(update(table).where(table.c.id == completion_id).values({"metadata": dict(metadata)}))
            _forget_metadata(connection, completion_id)
            _index_metadata(connection, completion_id, metadata)
            seal(connection, table, table.c.id == completion_id)
            return _completion(_get(connection, completion_id, access))

    def delete(self, completion_id: str, access: Access) -> None:
        """Remove a completion.

        Raises:
            NotFoundError: There is none of that id (any more), or it is another key's.
        """
        with self._database.write() as connection:
            _get(connection, completion_id, access)
            _forget_metadata(connection, completion_id)
            connection.execute(delete(chat_completions).where(chat_completions.c.id == completion_id))


def _is(completion_id: str, access: Access) -> ColumnElement[bool]:
    return owned(chat_completions, access) & (chat_completions.c.id == completion_id)


def _get(connection: Connection, completion_id: str, access: Access) -> Sequence[Any]:
    row = connection.execute(_SELECT.where(_is(completion_id, access))).one_or_none()
    if row is None:
        raise _not_found(completion_id)
    return row


def _not_found(completion_id: str) -> NotFoundError:
    return NotFoundError(f"there is no stored chat completion {completion_id!r}; only those made with `store: true` are kept")


def _completion(row: Sequence[Any]) -> Json:
    completion, metadata = row
    return {**completion, "metadata": metadata}


def _has_metadata(key: str, value: str) -> ColumnElement[bool]:
    table = chat_completion_metadata.c
    same = (table.completion_id == chat_completions.c.id, table.key == key, table.value == value)
    return exists().where(*same)


def _index_metadata(connection: Connection, completion_id: str, metadata: Mapping[str, str]) -> None:
    if metadata:
        rows = [{"completion_id": completion_id, "key": key, "value": value} for key, value in metadata.items()]
        connection.execute(insert(chat_completion_metadata), rows)


def _forget_metadata(connection: Connection, completion_id: str) -> None:
    table = chat_completion_metadata
    connection.execute(delete(table).where(table.c.completion_id == completion_id))
