"""The files of vector stores: found, listed, changed, and worked on by one process at a time."""

import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, or_, select, update

from rag_server.errors import NotFoundError
from rag_server.store import schema
from rag_server.store.database import Database
from rag_server.store.documents import LEASE_S, check_leased, delete_documents, refresh_attributes
from rag_server.store.seals import seal
from rag_server.store.selection import readable_files
from rag_server.types import Access, FileStatus, NewFile, StoredFile, VectorStore

# OpenAI has no word for a file that waits.
STATUSES: tuple[FileStatus, ...] = get_args(FileStatus)
UPLOAD = "upload:"
MAX_ATTEMPTS = 3

table = schema.files
_COLUMNS = [table.c[name] for name in StoredFile.__dataclass_fields__]


class Files:
    """The table of files. Every change is one durable transaction; `owner` is this process in the leases."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.owner = secrets.token_hex(8)

    def find(self, vector_store: VectorStore, source: str) -> StoredFile | None:
        """Return the file that was indexed from `source` (an absolute path or upload:ID), if there is one."""
        with self._database.read() as connection:
            return _one(connection, table.c.vector_store_id == vector_store.id, table.c.source == source)

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

    def counts(self, vector_store: VectorStore, access: Access) -> dict[str, int]:
        """Return the number of files that `access` may read by status."""
        query = select(table.c.status, func.count()).select_from(_WITH_TENANT).group_by(table.c.status)
        with self._database.read() as connection:
            rows = connection.execute(query.where(table.c.vector_store_id == vector_store.id, readable_files(access)))
            found = {row[0]: row[1] for row in rows}
        return {status: found.get(status, 0) for status in STATUSES}

    def usage_bytes(self, vector_store: VectorStore, access: Access) -> int:
        """Return the size of the files that `access` may read, in bytes."""
        query = select(func.coalesce(func.sum(table.c.bytes), 0)).select_from(_WITH_TENANT)
        with self._database.read() as connection:
            found = connection.execute(query.where(table.c.vector_store_id == vector_store.id, readable_files(access)))
            return int(found.scalar_one())

    def enqueue(self, vector_store: VectorStore, new: NewFile) -> StoredFile:
        """Put a file in the queue of files to index; one that is there already is indexed again."""
        return self._put(vector_store, new, status="queued", lease_owner=None, lease_until=None, error=None, attempts=0)

    def begin(self, vector_store: VectorStore, new: NewFile) -> StoredFile:
        """Return the file, leased to this process; what an earlier run stored stays until it is replaced."""
        lease_until = time.time() + LEASE_S
        return self._put(
            vector_store,
            new,
            status="in_progress",
            lease_owner=self.owner,
            lease_until=lease_until,
            fingerprint=None,
            error=None,
        )

    def describe(self, vector_store: VectorStore, new: NewFile) -> StoredFile:
        """Replace the attributes and principals of a file whose content is indexed already."""
        return self._put(vector_store, new, status="completed", bytes_read=new.bytes)

    def lease(self) -> StoredFile | None:
        """Take the next queued upload, or one whose process has died, for this process."""
        now = time.time()
        query = select(table.c.key).where(_is_waiting(now)).order_by(table.c.key).limit(1)
        with self._database.write() as connection:
            key = connection.execute(query).scalar_one_or_none()
            if key is None:
                return None
            leased = {"status": "in_progress", "lease_owner": self.owner, "lease_until": now + LEASE_S, "fingerprint": None}
            begun = {**leased, "bytes_read": 0, "attempts": table.c.attempts + 1}
            attempts = update(table).where(table.c.key == key).values(begun).returning(table.c.attempts)
            if connection.execute(attempts).scalar_one() > MAX_ATTEMPTS:
                reason = f"the indexing process died {MAX_ATTEMPTS} times over this file; the server's log says why"
                given_up = {"status": "failed", "error": reason, "lease_owner": None, "lease_until": None}
                connection.execute(update(table).where(table.c.key == key).values(given_up))
                return None
            return _one(connection, table.c.key == key)

    def num_waiting(self) -> int:
        """Return how many uploads wait to be indexed, those of a process that died included."""
        query = select(func.count()).where(_is_waiting(time.time()))
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def renew(self, file: StoredFile, bytes_read: int) -> None:
        """Keep the lease and tell how far the file is read.

        Raises:
            CancelledByUserError: The file was cancelled, deleted or taken over.
        """
        with self._database.write() as connection:
            check_leased(connection, file, self.owner)
            changes = {"lease_until": time.time() + LEASE_S, "bytes_read": bytes_read}
            connection.execute(update(table).where(table.c.key == file.key).values(changes))

    def fail(self, file: StoredFile, reason: str) -> None:
        """Mark the file as failed; what was stored of it stays searchable."""
        with self._database.write() as connection:
            statement = update(table).where(table.c.key == file.key, table.c.lease_owner == self.owner)
            connection.execute(statement.values(status="failed", error=reason, lease_owner=None, lease_until=None))

    def cancel(self, file: StoredFile) -> None:
        """Stop the indexing of a file that is queued or in progress; what was stored of it stays until it is deleted."""
        with self._database.write() as connection:
            running = table.c.status.in_(("queued", "in_progress"))
            statement = update(table).where(table.c.key == file.key, running)
            connection.execute(statement.values(status="cancelled", lease_owner=None, lease_until=None))

    def delete(self, vector_store: VectorStore, file: StoredFile) -> None:
        """Remove a file with everything that was indexed of it."""
        with self._database.write() as connection:
            keys = select(schema.documents.c.id).where(schema.documents.c.file_key == file.key)
            delete_documents(connection, vector_store.id, keys)
            connection.execute(delete(schema.file_principals).where(schema.file_principals.c.file_key == file.key))
            connection.execute(delete(table).where(table.c.key == file.key))

    def move(self, vector_store: VectorStore, file: StoredFile, source: str, filename: str) -> None:
        """Record that a file lies elsewhere now; its documents stay as they are."""
        documents = schema.documents
        with self._database.write() as connection:
            connection.execute(update(table).where(table.c.key == file.key).values(source=source, filename=filename))
            whole = (documents.c.file_key == file.key, documents.c.document_id == file.filename)
            connection.execute(update(documents).where(*whole).values(document_id=filename))
            seal(connection, documents, documents.c.file_key == file.key, documents.c.document_id == filename)
            seal(connection, table, table.c.key == file.key)
            _note_change(connection, vector_store.id)

    def set_attributes(self, vector_store: VectorStore, file: StoredFile, attributes: Mapping[str, Any]) -> StoredFile:
        """Replace the file's attributes; its chunks are found by the new ones as soon as this returns."""
        with self._database.write() as connection:
            statement = update(table).where(table.c.key == file.key).values(attributes=dict(attributes))
            if connection.execute(statement).rowcount == 0:
                raise NotFoundError(f"the file {file.id!r} was deleted meanwhile")
            seal(connection, table, table.c.key == file.key)
            refresh_attributes(connection, vector_store.id, file.key)
            _note_change(connection, vector_store.id)
            return _stored_file(connection.execute(select(*_COLUMNS).where(table.c.key == file.key)).one())

    def _put(self, vector_store: VectorStore, new: NewFile, **state: Any) -> StoredFile:
        source = (table.c.vector_store_id == vector_store.id, table.c.source == new.source)
        described = {
            "filename": new.filename,
            "bytes": new.bytes,
            "attributes": dict(new.attributes),
            "principals": None if new.principals is None else sorted(set(new.principals)),
            "chunking": None if new.chunking is None else dict(new.chunking),
            "bytes_read": 0,
            **state,
        }
        stores = schema.vector_stores.c
        with self._database.write() as connection:
            if connection.execute(select(stores.id).where(stores.id == vector_store.id)).one_or_none() is None:
                raise NotFoundError(f"the collection {vector_store.name!r} was deleted meanwhile")
            found = _one(connection, *source)
            if found is None:
                named = {
                    "id": new.id or f"file-{secrets.token_hex(12)}",
                    "vector_store_id": vector_store.id,
                    "source": new.source,
                }
                connection.execute(insert(table).values(**named, **described, created_at=int(time.time())))
            else:
                connection.execute(update(table).where(*source).values(described))
            seal(connection, table, *source)
            stored = _stored_file(connection.execute(select(*_COLUMNS).where(*source)).one())
            _set_principals(connection, stored)
            if found is not None and (found.attributes, found.principals) != (stored.attributes, stored.principals):
                refresh_attributes(connection, vector_store.id, stored.key)
                _note_change(connection, vector_store.id)
        return stored

    def _list(self, *conditions: ColumnElement[bool]) -> list[StoredFile]:
        query = select(*_COLUMNS).select_from(_WITH_TENANT).where(*conditions).order_by(table.c.key)
        with self._database.read() as connection:
            return [_stored_file(row) for row in connection.execute(query)]


_WITH_TENANT = table.join(schema.vector_stores, table.c.vector_store_id == schema.vector_stores.c.id)


def _is_waiting(now: float) -> ColumnElement[bool]:
    """Return the condition that holds for uploads that are queued, or whose process has died."""
    waiting = or_(table.c.status == "queued", (table.c.status == "in_progress") & (table.c.lease_until < now))
    return waiting & table.c.source.startswith(UPLOAD)


def _one(connection: Connection, *conditions: ColumnElement[bool]) -> StoredFile | None:
    row = connection.execute(select(*_COLUMNS).where(*conditions)).one_or_none()
    return None if row is None else _stored_file(row)


def _stored_file(row: Row[Any]) -> StoredFile:
    principals = row.principals
    return StoredFile(**{**row._mapping, "principals": None if principals is None else tuple(principals)})


def _set_principals(connection: Connection, file: StoredFile) -> None:
    principals = schema.file_principals
    connection.execute(delete(principals).where(principals.c.file_key == file.key))
    if file.principals:
        rows = [{"file_key": file.key, "principal": principal} for principal in file.principals]
        connection.execute(insert(principals), rows)


def _note_change(connection: Connection, vector_store_id: str) -> None:
    """Move the log's head on, so that nothing found before is taken for true any longer."""
    connection.execute(insert(schema.deletions).values(vector_store_id=vector_store_id, chunk_id=None))
