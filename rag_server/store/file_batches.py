"""Files that were put into a vector store together: what they are at is counted from the files themselves."""

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, select, update

from rag_server.errors import NotFoundError
from rag_server.store import schema
from rag_server.store.database import Database
from rag_server.store.file_rows import COLUMNS, WITH_TENANT, check_may_change, check_there, enqueue_file, stored_file
from rag_server.store.files import RUNNING, STATUSES
from rag_server.store.ids import new_id
from rag_server.store.ownership import owned, owner_of
from rag_server.store.paging import page_of
from rag_server.store.seals import seal
from rag_server.store.selection import readable_files
from rag_server.types import Access, FileBatch, FileStatus, NewFile, Page, StoredFile, VectorStore

batches, members, files = schema.file_batches, schema.file_batch_members, schema.files


class FileBatches:
    """The table of file batches."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, vector_store: VectorStore, new: Sequence[NewFile], access: Access) -> FileBatch:
        """Queue files to be indexed, all of them or none.

        Raises:
            ForbiddenError: One is there already, and `access` may not change it.
        """
        values = {"id": new_id("vsfb_"), "tenant": access.tenant, "owner": owner_of(access)}
        with self._database.write() as connection:
            check_there(connection, vector_store)
            keys = {enqueue_file(connection, vector_store, file, access).key for file in new}
            connection.execute(insert(batches).values(**values, vector_store_id=vector_store.id, created_at=int(time.time())))
            connection.execute(insert(members), [{"batch_id": values["id"], "file_key": key} for key in sorted(keys)])
            seal(connection, batches, batches.c.id == values["id"])
            return _get(connection, vector_store, values["id"], access)

    def get(self, vector_store: VectorStore, batch_id: str, access: Access) -> FileBatch:
        """Return the batch of that id.

        Raises:
            NotFoundError: There is none in this vector store, or it is another key's.
        """
        with self._database.read() as connection:
            return _get(connection, vector_store, batch_id, access)

    def cancel(self, vector_store: VectorStore, batch_id: str, access: Access) -> FileBatch:
        """Stop the indexing of the batch's files that are queued or in progress.

        Raises:
            ForbiddenError: One of them is not for `access` to change; none is stopped.
        """
        with self._database.write() as connection:
            batch = _get(connection, vector_store, batch_id, access)
            query = select(*COLUMNS).join(members, members.c.file_key == files.c.key)
            running = query.where(members.c.batch_id == batch_id, files.c.status.in_(RUNNING))
            found = [stored_file(row) for row in connection.execute(running)]
            for file in found:
                check_may_change(file, access)
            stopped = {"status": "cancelled", "lease_owner": None, "lease_until": None}
            connection.execute(update(files).where(files.c.key.in_([file.key for file in found])).values(stopped))
            if batch.cancelled_at is None:
                connection.execute(update(batches).where(batches.c.id == batch_id).values(cancelled_at=int(time.time())))
                seal(connection, batches, batches.c.id == batch_id)
            return _get(connection, vector_store, batch_id, access)

    def page(
        self, batch: FileBatch, access: Access, page: Page, *, statuses: Sequence[FileStatus] = STATUSES
    ) -> tuple[list[StoredFile], bool]:
        """Return a page of the batch's files that `access` may read, and whether there are more."""
        query = select(*COLUMNS).select_from(WITH_TENANT).where(_of_batch(batch.id), readable_files(access))
        wanted = [files.c.status.in_(statuses)]
        with self._database.read() as connection:
            rows, has_more = page_of(connection, query, page, id_=files.c.id, position=[files.c.key], where=wanted)
        return [stored_file(row) for row in rows], has_more


def _of_batch(batch_id: str) -> ColumnElement[bool]:
    return files.c.key.in_(select(members.c.file_key).where(members.c.batch_id == batch_id))


def _get(connection: Connection, vector_store: VectorStore, batch_id: str, access: Access) -> FileBatch:
    query = select(batches).where(
        batches.c.id == batch_id, batches.c.vector_store_id == vector_store.id, owned(batches, access)
    )
    row: Row[Any] | None = connection.execute(query).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no file batch {batch_id!r} in the collection {vector_store.name!r}")
    counting = select(files.c.status, func.count()).select_from(WITH_TENANT).where(_of_batch(batch_id), readable_files(access))
    found = {status: number for status, number in connection.execute(counting.group_by(files.c.status))}
    counts: dict[FileStatus, int] = {status: found.get(status, 0) for status in STATUSES}
    return FileBatch(row.id, row.vector_store_id, row.created_at, row.cancelled_at, counts)
