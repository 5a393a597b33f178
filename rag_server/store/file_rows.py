"""The rows of a vector store's files, read and written inside a transaction that someone else has begun."""

import time
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, insert, select, update

from rag_server.errors import ForbiddenError, NotFoundError
from rag_server.store import schema
from rag_server.store.documents import delete_documents, refresh_attributes
from rag_server.store.ids import new_id
from rag_server.store.seals import seal
from rag_server.types import Access, NewFile, StoredFile, VectorStore

# In the source of a file that was uploaded; the other sources are paths.
UPLOAD = "upload:"
# Of a file that waits to be indexed.
QUEUED = {"status": "queued", "lease_owner": None, "lease_until": None, "error": None, "error_code": None, "attempts": 0}

table = schema.files
COLUMNS = [table.c[name] for name in StoredFile.__dataclass_fields__]
WITH_TENANT = table.join(schema.vector_stores, table.c.vector_store_id == schema.vector_stores.c.id)


def stored_file(row: Row[Any]) -> StoredFile:
    """Return the file that a row of `COLUMNS` is."""
    principals = row.principals
    return StoredFile(**{**row._mapping, "principals": None if principals is None else tuple(principals)})


def one_file(connection: Connection, *conditions: ColumnElement[bool]) -> StoredFile | None:
    """Return the only file of which the conditions hold, None if there is none."""
    row = connection.execute(select(*COLUMNS).where(*conditions)).one_or_none()
    return None if row is None else stored_file(row)


def check_may_change(file: StoredFile, access: Access) -> None:
    """Raise ForbiddenError unless `access` may change or remove the file."""
    check_has_all(file.principals, access)


def check_has_all(principals: Collection[str] | None, access: Access) -> None:
    """Raise ForbiddenError unless `access` stands for all who may read a file; one that is open to all takes a full key."""
    # One that is closed to all principals is left to full keys too.
    if access.principals is not None and (not principals or not access.principals.issuperset(principals)):
        raise ForbiddenError("this API key is limited to some documents and cannot change one that is open to others")


def uploads_there() -> ColumnElement[bool]:
    """Return the condition on `uploads` that holds for those that are complete and not expired."""
    uploads = schema.uploads.c
    return uploads.is_complete & (uploads.expires_at.is_(None) | (uploads.expires_at > int(time.time())))


def check_there(connection: Connection, vector_store: VectorStore) -> None:
    """Raise NotFoundError if the vector store was deleted meanwhile."""
    stores = schema.vector_stores.c
    if connection.execute(select(stores.id).where(stores.id == vector_store.id)).one_or_none() is None:
        raise NotFoundError(f"the collection {vector_store.name!r} was deleted meanwhile")


def enqueue_file(connection: Connection, vector_store: VectorStore, new: NewFile, access: Access) -> StoredFile:
    """Put a file in the queue of files to index; one that is there already is indexed again.

    Raises:
        ForbiddenError: It is there already, and `access` may not change it.
        NotFoundError: It is an upload that is not there (any more).
    """
    if new.source.startswith(UPLOAD):
        _check_uploaded(connection, new.source.removeprefix(UPLOAD))
    found = one_file(connection, table.c.vector_store_id == vector_store.id, table.c.source == new.source)
    if found is not None:
        check_may_change(found, access)
        if new.keeps_principals:
            new = replace(new, principals=found.principals)
    return put_file(connection, vector_store, new, **QUEUED)


def put_file(connection: Connection, vector_store: VectorStore, new: NewFile, **state: Any) -> StoredFile:
    """Write a file's row, found by its source, with who may read it and what filters find it by."""
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
    found = one_file(connection, *source)
    if found is None:
        named = {"id": new.id or new_id("file-"), "vector_store_id": vector_store.id, "source": new.source}
        connection.execute(insert(table).values(**named, **described, created_at=int(time.time())))
    else:
        connection.execute(update(table).where(*source).values(described))
    seal(connection, table, *source)
    stored = stored_file(connection.execute(select(*COLUMNS).where(*source)).one())
    _set_principals(connection, stored)
    if found is not None and (found.attributes, found.principals) != (stored.attributes, stored.principals):
        refresh_attributes(connection, vector_store.id, stored.key)
        note_change(connection, vector_store.id)
    return stored


def delete_files(connection: Connection, vector_store_id: str, keys: "Select[tuple[int]] | list[int]") -> None:
    """Remove the files of these keys with everything that was indexed of them."""
    documents, principals, members = schema.documents.c, schema.file_principals, schema.file_batch_members
    delete_documents(connection, vector_store_id, select(documents.id).where(documents.file_key.in_(keys)))
    connection.execute(delete(principals).where(principals.c.file_key.in_(keys)))
    connection.execute(delete(members).where(members.c.file_key.in_(keys)))
    connection.execute(delete(table).where(table.c.key.in_(keys)))


def note_change(connection: Connection, vector_store_id: str) -> None:
    """Move the log's head on, so that nothing found before is taken for true any longer."""
    connection.execute(insert(schema.deletions).values(vector_store_id=vector_store_id, chunk_id=None))


def _check_uploaded(connection: Connection, upload_id: str) -> None:
    query = select(schema.uploads.c.id).where(schema.uploads.c.id == upload_id, uploads_there())
    if connection.execute(query).one_or_none() is None:
        raise NotFoundError(f"the file {upload_id!r} was deleted meanwhile; upload it again")


def _set_principals(connection: Connection, file: StoredFile) -> None:
    principals = schema.file_principals
    connection.execute(delete(principals).where(principals.c.file_key == file.key))
    if file.principals:
        rows = [{"file_key": file.key, "principal": principal} for principal in file.principals]
        connection.execute(insert(principals), rows)
