"""Responses with the items of their input and output, for whoever's key made them."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, insert, select, update

from rag_server.errors import InvalidRequestError, NotFoundError, PreviousResponseNotFoundError
from rag_server.protocols import Json
from rag_server.store.conversations import append_items
from rag_server.store.database import Database
from rag_server.store.dialogue_schema import conversation_items, conversations, response_events, response_items, responses
from rag_server.store.ownership import owned, owner_of
from rag_server.store.paging import page_of
from rag_server.store.seals import seal, seal_of
from rag_server.types import Access, Page

# What a response may follow, response by response, is read again for each answer.
MAX_CHAIN = 1000
RUNNING = ("queued", "in_progress")
ABANDONED = {"code": "server_error", "message": "the server that worked on this response has ended; send the request again"}


class Responses:
    """The tables of responses. A response is OpenAI's object, whose `output` and whose input are items with an `id` each."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, response: Json, input_items: Sequence[Json], access: Access, *, lease_until: float | None = None) -> None:
        """Keep a response; with a lease, one that a process works on in the background."""
        with self._database.write() as connection:
            _insert(connection, response, input_items, access, lease_until)

    def add_to_conversation(
        self, response: Json, input_items: Sequence[Json], conversation_id: str, access: Access, *, keep: bool
    ) -> None:
        """Put input and output at the end of a conversation and, with `keep`, keep the response; both or neither.

        Raises:
            NotFoundError: The conversation was deleted meanwhile.
            InvalidRequestError: It would become too long.
        """
        with self._database.write() as connection:
            if keep:
                _insert(connection, response, input_items, access, None)
            append_items(connection, conversation_id, [*input_items, *response["output"]])

    def finish(
        self,
        response: Json,
        *,
        input_items: Sequence[Json] = (),
        conversation_id: str | None = None,
        events: Sequence[Json] | None = None,
    ) -> bool:
        """Write down how a response in the background ended and what was streamed, and put its items into its conversation.

        Returns:
            Whether it was still wanted: it may have been cancelled, deleted or given up meanwhile, and then stays so.

        Raises:
            NotFoundError: The conversation was deleted meanwhile; nothing is written.
            InvalidRequestError: It would become too long; nothing is written.
        """
        with self._database.write() as connection:
            if not _is_running(connection, response["id"]):
                return False
            _write(connection, response)
            _insert_items(connection, response["id"], response["output"], is_output=True)
            if conversation_id is not None:
                append_items(connection, conversation_id, [*input_items, *response["output"]])
            if events is not None:
                _put_events(connection, response["id"], events)
            return True

    def begin(self, response_id: str) -> bool:
        """Set a queued response to in progress; return whether it is still wanted."""
        with self._database.write() as connection:
            if not _is_running(connection, response_id):
                return False
            _write(connection, {**_stored(connection, response_id), "status": "in_progress"}, keep_lease=True)
            return True

    def renew(self, response_ids: Sequence[str], lease_until: float) -> set[str]:
        """Prolong the leases; return the responses that are still wanted."""
        wanted = responses.c.id.in_(response_ids) & responses.c.status.in_(RUNNING)
        with self._database.write() as connection:
            connection.execute(update(responses).where(wanted).values(lease_until=lease_until))
            return set(connection.execute(select(responses.c.id).where(wanted)).scalars())

    def cancel(self, response_id: str, access: Access) -> Json:
        """Stop a response that is made in the background; one that has ended stays as it is. Return it.

        Raises:
            NotFoundError: There is no response of that id, or it is another key's.
            InvalidRequestError: It was not made in the background.
        """
        with self._database.write() as connection:
            row = _get(connection, response_id, access)
            if not row.response.get("background"):
                raise InvalidRequestError(
                    "only a response with `background: true` can be cancelled; close the connection of any other", "response_id"
                )
            if row.status in RUNNING:
                _write(connection, {**row.response, "status": "cancelled"})
            return _whole(connection, _get(connection, response_id, access))

    def get(self, response_id: str, access: Access) -> Json:
        """Return the response of that id; one whose process has ended is failed from now on.

        Raises:
            NotFoundError: There is none, or it is another key's.
        """
        with self._database.read() as connection:
            row = _get(connection, response_id, access)
            if not _is_abandoned(row):
                return _whole(connection, row)
        with self._database.write() as connection:
            row = _get(connection, response_id, access)
            if _is_abandoned(row):
                _write(connection, {**row.response, "status": "failed", "error": ABANDONED})
            return _whole(connection, _get(connection, response_id, access))

    def delete(self, response_id: str, access: Access) -> None:
        """Remove a response; its items stay in the conversation that it was made in.

        Raises:
            NotFoundError: There is none of that id, or it is another key's.
        """
        with self._database.write() as connection:
            _get(connection, response_id, access)
            for table in (response_items, response_events):
                connection.execute(delete(table).where(table.c.response_id == response_id))
            connection.execute(delete(responses).where(responses.c.id == response_id))

    def input_page(self, response_id: str, access: Access, page: Page) -> tuple[list[Json], bool]:
        """Return a page of the items of a response's input, without those that it followed, and whether there are more.

        Raises:
            NotFoundError: There is no response of that id, or it is another key's.
            InvalidRequestError: The page begins at an item that is not there.
        """
        table = response_items.c
        with self._database.read() as connection:
            _get(connection, response_id, access)
            query = select(table.item).where(table.response_id == response_id, table.is_output.is_(False))
            rows, has_more = page_of(connection, query, page, id_=table.id, position=[table.key])
        return [row.item for row in rows], has_more

    def history(self, response_id: str, access: Access) -> list[Json]:
        """Return the items of a response and of all that it follows, input and output, the oldest first.

        Raises:
            PreviousResponseNotFoundError: One of them is not there (any more), or is another key's.
            InvalidRequestError: It is not done yet, or follows too many.
        """
        with self._database.read() as connection:
            chain = list(_chain(connection, response_id, access))
            table = response_items.c
            query = select(table.response_id, table.item).where(table.response_id.in_(chain)).order_by(table.key)
            found: dict[str, list[Json]] = {}
            for row in connection.execute(query):
                found.setdefault(row.response_id, []).append(row.item)
        return [item for one in reversed(chain) for item in found.get(one, ())]

    def find_items(self, item_ids: Sequence[str], access: Access) -> dict[str, Json]:
        """Return the items of these ids among those of all responses and conversations of `access`."""
        of_responses = select(response_items.c.id, response_items.c.item).join(responses).where(owned(responses, access))
        of_conversations = select(conversation_items.c.id, conversation_items.c.item).join(conversations)
        of_conversations = of_conversations.where(owned(conversations, access))
        with self._database.read() as connection:
            rows = [
                *connection.execute(of_conversations.where(conversation_items.c.id.in_(item_ids))),
                *connection.execute(of_responses.where(response_items.c.id.in_(item_ids))),
            ]
        return {row.id: row.item for row in rows}

    def save_events(self, response_id: str, events: Sequence[Json]) -> None:
        """Keep what was streamed of a response in the background, in place of what is kept, unless the response was deleted."""
        with self._database.write() as connection:
            if connection.execute(select(responses.c.id).where(responses.c.id == response_id)).first() is not None:
                _put_events(connection, response_id, events)

    def events(self, response_id: str, access: Access) -> list[Json] | None:
        """Return what was streamed of a response in the background, None where nothing was.

        Raises:
            NotFoundError: There is no response of that id, or it is another key's.
        """
        with self._database.read() as connection:
            _get(connection, response_id, access)
            query = select(response_events.c.events).where(response_events.c.response_id == response_id)
            found: list[Json] | None = connection.execute(query).scalar_one_or_none()
        return found


def _insert(
    connection: Connection, response: Json, input_items: Sequence[Json], access: Access, lease_until: float | None
) -> None:
    values = {
        "id": response["id"],
        "tenant": access.tenant,
        "owner": owner_of(access),
        "created_at": response["created_at"],
        "previous_response_id": response["previous_response_id"],
        "status": response["status"],
        "response": {**response, "output": []},
        "lease_until": lease_until,
    }
    connection.execute(insert(responses).values(values))
    seal(connection, responses, responses.c.id == response["id"])
    _insert_items(connection, response["id"], input_items, is_output=False)
    _insert_items(connection, response["id"], response["output"], is_output=True)


def _insert_items(connection: Connection, response_id: str, new: Sequence[Json], *, is_output: bool) -> None:
    rows = [{"response_id": response_id, "is_output": is_output, "id": item["id"], "item": item} for item in new]
    if rows:
        connection.execute(insert(response_items), [{**row, "checksum": seal_of(response_items, row)} for row in rows])


def _put_events(connection: Connection, response_id: str, events: Sequence[Json]) -> None:
    connection.execute(delete(response_events).where(response_events.c.response_id == response_id))
    connection.execute(insert(response_events).values(response_id=response_id, events=list(events)))


def _write(connection: Connection, response: Json, *, keep_lease: bool = False) -> None:
    """Write the response over the one that is stored; without a lease nobody works on it any more."""
    values: dict[str, Any] = {"status": response["status"], "response": {**response, "output": []}}
    if not keep_lease:
        values["lease_until"] = None
    this: ColumnElement[bool] = responses.c.id == response["id"]
    connection.execute(update(responses).where(this).values(values))
    seal(connection, responses, this)


def _get(connection: Connection, response_id: str, access: Access) -> Row[Any]:
    query = select(responses).where(responses.c.id == response_id, owned(responses, access))
    row: Row[Any] | None = connection.execute(query).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no response {response_id!r}; those with `store: false` are not kept")
    return row


def _stored(connection: Connection, response_id: str) -> Json:
    stored: Json = connection.execute(select(responses.c.response).where(responses.c.id == response_id)).scalar_one()
    return stored


def _whole(connection: Connection, row: Row[Any]) -> Json:
    table = response_items.c
    query = select(table.item).where(table.response_id == row.id, table.is_output.is_(True)).order_by(table.key)
    return {**row.response, "output": list(connection.execute(query).scalars())}


def _is_running(connection: Connection, response_id: str) -> bool:
    query = select(responses.c.status).where(responses.c.id == response_id)
    return connection.execute(query).scalar_one_or_none() in RUNNING


def _is_abandoned(row: Row[*tuple[Any, ...]]) -> bool:
    return row.status in RUNNING and (row.lease_until is None or row.lease_until < time.time())


def _chain(connection: Connection, response_id: str | None, access: Access) -> Iterator[str]:
    """Yield the ids of a response and of those that it follows, the newest first."""
    count = 0
    while response_id is not None:
        row = connection.execute(
            select(responses.c.status, responses.c.lease_until, responses.c.previous_response_id).where(
                responses.c.id == response_id, owned(responses, access)
            )
        ).one_or_none()
        if row is None:
            raise PreviousResponseNotFoundError(
                f"there is no response {response_id!r} (any more), which this one would follow", "previous_response_id"
            )
        if row.status in RUNNING and not _is_abandoned(row):
            raise InvalidRequestError(f"the response {response_id!r} is not done yet; wait for it", "previous_response_id")
        count += 1
        if count > MAX_CHAIN:
            raise InvalidRequestError(
                f"a response follows at most {MAX_CHAIN:,} others; begin anew, or keep the items in a conversation",
                "previous_response_id",
            )
        yield response_id
        response_id = row.previous_response_id
