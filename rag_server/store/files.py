"""The files of vector stores: found, listed, changed, and worked on by one process at a time."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from sqlalchemy import ColumnElement, Connection, Row, func, or_, select, update

from rag_server.errors import NotFoundError
from rag_server.store import schema
from rag_server.store.database import Database
from rag_server.store.documents import LEASE_S, check_leased, refresh_attributes
from rag_server.store.file_rows import (
    COLUMNS,
    QUEUED,
    UPLOAD,
    WITH_TENANT,
    check_there,
    delete_files,
    enqueue_file,
    note_change,
    one_file,
    put_file,
    stored_file,
    table,
)
from rag_server.store.lease_owner import has_ended, new_owner
from rag_server.store.paging import page_of
from rag_server.store.seals import seal
from rag_server.store.selection import readable_files
from rag_server.types import Access, FileErrorCode, FileStatus, NewFile, Page, StoredFile, StoreUsage, VectorStore

# OpenAI has no word for a file that waits.
STATUSES: tuple[FileStatus, ...] = get_args(FileStatus)
# What can still be cancelled.
RUNNING: tuple[FileStatus, ...] = ("queued", "in_progress")
MAX_ATTEMPTS = 3


class Files:
    """The table of files. Every change is one durable transaction; `owner` is this process in the leases."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.owner = new_owner()

    def find(self, vector_store: VectorStore, source: str) -> StoredFile | None:
        """Return the file that was indexed from `source` (an absolute path or upload:ID), if there is one."""
        with self._database.read() as connection:
            return one_file(connection, table.c.vector_store_id == vector_store.id, table.c.source == source)

    def find_content(self, vector_store: VectorStore, fingerprint: str) -> list[StoredFile]:
        """Return the files that were indexed from the same bytes with the same settings."""
        return self._list(table.c.vector_store_id == vector_store.id, table.c.fingerprint == fingerprint)

    def under(self, vector_store: VectorStore, folder: Path) -> list[StoredFile]:
        """Return the files that were indexed from `folder` or a folder in it."""
        prefix = f"{folder}/"
        found = self._list(table.c.vector_store_id == vector_store.id)
        return [file for file in found if file.source.startswith(prefix)]

    def readable(self, vector_store: VectorStore, access: Access) -> list[StoredFile]:
        """Return the files that `access` may read, oldest first."""
        return self._list(table.c.vector_store_id == vector_store.id, readable_files(access))

    def get(self, vector_store: VectorStore, file_id: str, access: Access) -> StoredFile:
        """Return the file of that id.

        Raises:
            NotFoundError: There is none, or it is closed to `access`.
        """
        found = self._list(table.c.vector_store_id == vector_store.id, table.c.id == file_id, readable_files(access))
        if not found:
            raise NotFoundError(f"there is no file {file_id!r} in the collection {vector_store.name!r}")
        return found[0]

    def page(
        self, vector_store: VectorStore, access: Access, page: Page, *, statuses: Sequence[FileStatus] = STATUSES
    ) -> tuple[list[StoredFile], bool]:
        """Return a page of the files that `access` may read, in the order in which they came, and whether there are more."""
        query = select(*COLUMNS).select_from(WITH_TENANT).where(table.c.vector_store_id == vector_store.id)
        query, wanted = query.where(readable_files(access)), [table.c.status.in_(statuses)]
        with self._database.read() as connection:
            rows, has_more = page_of(connection, query, page, id_=table.c.id, position=[table.c.key], where=wanted)
        return [stored_file(row) for row in rows], has_more

    def counts(self, vector_store: VectorStore, access: Access) -> Mapping[FileStatus, int]:
        """Return the number of files that `access` may read by status."""
        return self.usage([vector_store.id], access)[vector_store.id].counts

    def usage(self, vector_store_ids: Sequence[str], access: Access) -> dict[str, StoreUsage]:
        """Return what the files that `access` may read are in each of the vector stores, in one query."""
        query = select(
            table.c.vector_store_id, table.c.status, func.count().label("files"), func.sum(table.c.bytes).label("size")
        )
        query = query.select_from(WITH_TENANT).where(table.c.vector_store_id.in_(vector_store_ids), readable_files(access))
        counts = {store_id: dict.fromkeys(STATUSES, 0) for store_id in vector_store_ids}
        sizes = dict.fromkeys(vector_store_ids, 0)
        with self._database.read() as connection:
            for row in connection.execute(query.group_by(table.c.vector_store_id, table.c.status)):
                counts[row.vector_store_id][row.status] = row.files
                sizes[row.vector_store_id] += int(row.size)
        return {store_id: StoreUsage(counts[store_id], sizes[store_id]) for store_id in vector_store_ids}

    def enqueue(self, vector_store: VectorStore, new: NewFile, access: Access | None = None) -> StoredFile:
        """Put a file in the queue of files to index; one that is there already is indexed again.

        Raises:
            ForbiddenError: It is there already, and `access` may not change it.
            NotFoundError: It is an upload that is not there (any more), or the vector store was deleted meanwhile.
        """
        with self._database.write() as connection:
            check_there(connection, vector_store)
            return enqueue_file(connection, vector_store, new, access or Access(vector_store.tenant))

    def begin(self, vector_store: VectorStore, new: NewFile) -> StoredFile:
        """Return the file, leased to this process; what an earlier run stored stays until it is replaced."""
        lease = {"status": "in_progress", "lease_owner": self.owner, "lease_until": time.time() + LEASE_S}
        with self._database.write() as connection:
            check_there(connection, vector_store)
            return put_file(connection, vector_store, new, **{**QUEUED, **lease}, fingerprint=None)

    def describe(self, vector_store: VectorStore, new: NewFile) -> StoredFile:
        """Replace the attributes and principals of a file whose content is indexed already."""
        with self._database.write() as connection:
            check_there(connection, vector_store)
            return put_file(connection, vector_store, new, status="completed", bytes_read=new.bytes)

    def lease(self, *, beside: StoredFile | None = None) -> StoredFile | None:
        """Take the next queued upload, or one whose process has died, for this process.

        With `beside`, which this process has, take it only if they may be indexed together: both of the same vector store,
        and over none of them has a process died yet.
        """
        now = time.time()
        with self._database.write() as connection:
            query = select(table.c.key, table.c.vector_store_id, table.c.attempts).where(_is_waiting(connection, now))
            row = connection.execute(query.order_by(table.c.key).limit(1)).one_or_none()
            if row is None or (beside is not None and not _may_go_beside(connection, beside, row)):
                return None
            key = row.key
            leased = {"status": "in_progress", "lease_owner": self.owner, "lease_until": now + LEASE_S, "fingerprint": None}
            begun = {**leased, "bytes_read": 0, "attempts": table.c.attempts + 1}
            attempts = update(table).where(table.c.key == key).values(begun).returning(table.c.attempts)
            if connection.execute(attempts).scalar_one() > MAX_ATTEMPTS:
                reason = f"the indexing process died {MAX_ATTEMPTS} times over this file; the server's log says why"
                given_up: dict[str, str | None] = {"status": "failed", "error": reason, "error_code": "server_error"}
                given_up |= {"lease_owner": None, "lease_until": None}
                connection.execute(update(table).where(table.c.key == key).values(given_up))
                return None
            return one_file(connection, table.c.key == key)

    def num_waiting(self) -> int:
        """Return how many uploads wait to be indexed, those of a process that died included."""
        with self._database.read() as connection:
            query = select(func.count()).where(_is_waiting(connection, time.time()))
            return int(connection.execute(query).scalar_one())

    def release(self) -> None:
        """Put the uploads that this process indexes back into the queue, for another one; that is no failed attempt."""
        mine = (table.c.status == "in_progress") & (table.c.lease_owner == self.owner) & table.c.source.startswith(UPLOAD)
        queued = {"status": "queued", "lease_owner": None, "lease_until": None, "attempts": table.c.attempts - 1}
        with self._database.write() as connection:
            connection.execute(update(table).where(mine).values(queued))

    def renew(self, file: StoredFile, bytes_read: int) -> None:
        """Keep the lease and tell how far the file is read.

        Raises:
            CancelledByUserError: The file was cancelled, deleted or taken over.
        """
        with self._database.write() as connection:
            check_leased(connection, file, self.owner)
            changes = {"lease_until": time.time() + LEASE_S, "bytes_read": bytes_read}
            connection.execute(update(table).where(table.c.key == file.key).values(changes))

    def fail(self, file: StoredFile, reason: str, code: FileErrorCode = "invalid_file") -> bool:
        """Mark the file as failed, if this process still has it; what was stored of it stays searchable."""
        failed = {"status": "failed", "error": reason, "error_code": code, "lease_owner": None, "lease_until": None}
        with self._database.write() as connection:
            statement = update(table).where(table.c.key == file.key, table.c.lease_owner == self.owner)
            return connection.execute(statement.values(failed)).rowcount > 0

    def cancel(self, file: StoredFile) -> None:
        """Stop the indexing of a file that is queued or in progress; what was stored of it stays until it is deleted."""
        with self._database.write() as connection:
            running = table.c.status.in_(RUNNING)
            statement = update(table).where(table.c.key == file.key, running)
            connection.execute(statement.values(status="cancelled", lease_owner=None, lease_until=None))

    def delete(self, vector_store: VectorStore, file: StoredFile) -> None:
        """Remove a file with everything that was indexed of it."""
        with self._database.write() as connection:
            delete_files(connection, vector_store.id, [file.key])

    def move(self, vector_store: VectorStore, file: StoredFile, source: str, filename: str) -> None:
        """Record that a file lies elsewhere now; its documents stay as they are."""
        documents = schema.documents
        with self._database.write() as connection:
            connection.execute(update(table).where(table.c.key == file.key).values(source=source, filename=filename))
            whole = (documents.c.file_key == file.key, documents.c.document_id == file.filename)
            connection.execute(update(documents).where(*whole).values(document_id=filename))
            seal(connection, documents, documents.c.file_key == file.key, documents.c.document_id == filename)
            seal(connection, table, table.c.key == file.key)
            note_change(connection, vector_store.id)

    def set_attributes(self, vector_store: VectorStore, file: StoredFile, attributes: Mapping[str, Any]) -> StoredFile:
        """Replace the file's attributes; its chunks are found by the new ones as soon as this returns."""
        with self._database.write() as connection:
            statement = update(table).where(table.c.key == file.key).values(attributes=dict(attributes))
            if connection.execute(statement).rowcount == 0:
                raise NotFoundError(f"the file {file.id!r} was deleted meanwhile")
            seal(connection, table, table.c.key == file.key)
            refresh_attributes(connection, vector_store.id, file.key)
            note_change(connection, vector_store.id)
            return stored_file(connection.execute(select(*COLUMNS).where(table.c.key == file.key)).one())

    def _list(self, *conditions: ColumnElement[bool]) -> list[StoredFile]:
        query = select(*COLUMNS).select_from(WITH_TENANT).where(*conditions).order_by(table.c.key)
        with self._database.read() as connection:
            return [stored_file(row) for row in connection.execute(query)]


def _may_go_beside(connection: Connection, file: StoredFile, row: Row[int, str, int]) -> bool:
    attempts = connection.execute(select(table.c.attempts).where(table.c.key == file.key)).scalar_one_or_none()
    return row.vector_store_id == file.vector_store_id and row.attempts == 0 and attempts == 1


def _is_waiting(connection: Connection, now: float) -> ColumnElement[bool]:
    """Return the condition that holds for uploads that are queued, or whose process has died, as far as can be told."""
    in_progress = table.c.status == "in_progress"
    owners = connection.execute(select(table.c.lease_owner).where(in_progress, table.c.lease_until >= now).distinct()).scalars()
    ended = [owner for owner in owners if owner is not None and has_ended(owner)]
    given_up = in_progress & or_(table.c.lease_until < now, table.c.lease_owner.in_(ended))
    return or_(table.c.status == "queued", given_up) & table.c.source.startswith(UPLOAD)
