"""Uploaded files, kept in parts so that neither a request nor an indexing process holds one whole in memory."""

import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, insert, select, update

from rag_server.errors import NotFoundError, StoreDamagedError
from rag_server.store import schema
from rag_server.store.database import Database
from rag_server.store.file_rows import COLUMNS as FILE_COLUMNS
from rag_server.store.file_rows import UPLOAD, check_has_all, check_may_change, delete_files, stored_file, uploads_there
from rag_server.store.ids import new_id
from rag_server.store.paging import page_of
from rag_server.store.seals import seal
from rag_server.types import Access, Page, Upload

PART_BYTES = 4 * 1024**2
# As in OpenAI's API: what is sent for a batch is not kept for ever.
BATCH_EXPIRES_AFTER_S = 30 * 24 * 3600

table = schema.uploads
_COLUMNS = [table.c[name] for name in Upload.__dataclass_fields__]


class Uploads:
    """The table of uploads and their parts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(
        self,
        access: Access,
        *,
        filename: str,
        purpose: str,
        content: Iterable[bytes],
        expires_after_s: int | None = None,
        upload_id: str | None = None,
    ) -> Upload:
        """Store a file; it exists once this returns, and not at all if it breaks off before.

        One with the id `upload_id`, where that is given, is replaced.
        """
        now = int(time.time())
        expires_at = expiry_of(purpose, expires_after_s, now)
        upload = Upload(upload_id or new_id("file-"), access.tenant, filename, purpose, 0, now, expires_at)
        with self._database.write() as connection:
            if upload_id is not None:
                delete_uploads(connection, [upload_id], access)
            begin_upload(connection, upload, access)
        size = 0
        for number, part in enumerate(content):
            with self._database.write() as connection:
                put_part(connection, upload.id, number, part)
            size += len(part)
        with self._database.write() as connection:
            connection.execute(update(table).where(table.c.id == upload.id).values(bytes=size, is_complete=True))
            seal(connection, table, table.c.id == upload.id)
        return self.get(upload.id, access)

    def readable(self, access: Access) -> list[Upload]:
        """Return the uploads that `access` may read, oldest first."""
        query = _readable(access).order_by(table.c.created_at, table.c.id)
        with self._database.read() as connection:
            return [_upload(row) for row in connection.execute(query)]

    def page(self, access: Access, page: Page, *, purpose: str | None = None) -> tuple[list[Upload], bool]:
        """Return a page of the uploads that `access` may read, in the order in which they came, and whether there are more."""
        query, position = _readable(access), [table.c.created_at, table.c.id]
        wanted = [] if purpose is None else [table.c.purpose == purpose]
        with self._database.read() as connection:
            rows, has_more = page_of(connection, query, page, id_=table.c.id, position=position, where=wanted)
        return [_upload(row) for row in rows], has_more

    def get(self, upload_id: str, access: Access) -> Upload:
        """Return the upload of that id.

        Raises:
            NotFoundError: There is none, or it is closed to `access`.
        """
        return self.get_all([upload_id], access)[0]

    def get_all(self, upload_ids: Sequence[str], access: Access) -> list[Upload]:
        """Return the uploads of these ids in their order.

        Raises:
            NotFoundError: One of them is not there, or closed to `access`.
        """
        with self._database.read() as connection:
            rows = connection.execute(_readable(access).where(table.c.id.in_(upload_ids)))
            found = {row.id: _upload(row) for row in rows}
        for upload_id in upload_ids:
            if upload_id not in found:
                raise NotFoundError(f"there is no file {upload_id!r}; upload it first")
        return [found[upload_id] for upload_id in upload_ids]

    def content(self, upload_id: str) -> Iterator[bytes]:
        """Yield the bytes of an upload in parts.

        Raises:
            NotFoundError: It was deleted.
            StoreDamagedError: They are not those that were stored.
        """
        with self._database.read() as connection:
            layout = connection.execute(select(table.c.layout).where(table.c.id == upload_id)).scalar_one_or_none()
        for number in part_numbers(layout):
            part = self._part(upload_id, number)
            if part is None and layout is not None:
                raise StoreDamagedError(f"part {number} of the file {upload_id} is missing in the store; upload it again")
            if part is None:
                return
            yield part

    def delete(self, upload: Upload, access: Access) -> None:
        """Remove an upload, and with it what vector stores hold of it.

        Raises:
            ForbiddenError: It is there for others than `access` too, by itself or in a vector store; nothing is removed.
        """
        with self._database.write() as connection:
            delete_uploads(connection, [upload.id], access)

    def _part(self, upload_id: str, number: int) -> bytes | None:
        """Return one part, None beyond the last one."""
        parts = schema.upload_parts.c
        query = select(parts.content, parts.checksum).where(parts.upload_id == upload_id, parts.number == number)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
            if row is None:
                if connection.execute(select(table.c.id).where(table.c.id == upload_id)).one_or_none() is None:
                    raise NotFoundError(f"the file {upload_id!r} was deleted")
                return None
        if zlib.crc32(row.content) != row.checksum:
            raise StoreDamagedError(f"part {number} of the file {upload_id} is damaged in the store; upload it again")
        return bytes(row.content)


def expiry_of(purpose: str, expires_after_s: int | None, created_at: int) -> int | None:
    """Return when a file is gone, in seconds since 1970; None is never."""
    if expires_after_s is None:
        return created_at + BATCH_EXPIRES_AFTER_S if purpose == "batch" else None
    return created_at + expires_after_s


def part_numbers(layout: Sequence[Sequence[int]] | None) -> Iterator[int]:
    """Yield the numbers of an upload's parts in order; without a layout they are counted from 0 without an end."""
    if layout is None:
        number = 0
        while True:
            yield number
            number += 1
    for first, count in layout:
        yield from range(first, first + count)


def begin_upload(connection: Connection, upload: Upload, access: Access) -> None:
    """Make the row that the parts refer to; it is not seen before it is complete."""
    principals = None if access.principals is None else sorted(access.principals)
    values = {name: getattr(upload, name) for name in Upload.__dataclass_fields__}
    connection.execute(insert(table).values(**values, principals=principals, is_complete=False))
    if principals:
        rows = [{"upload_id": upload.id, "principal": principal} for principal in principals]
        connection.execute(insert(schema.upload_principals), rows)
    seal(connection, table, table.c.id == upload.id)


def put_part(connection: Connection, upload_id: str, number: int, content: bytes) -> None:
    """Write a part; it must not be longer than PART_BYTES."""
    values = {"upload_id": upload_id, "number": number, "content": content, "checksum": zlib.crc32(content)}
    connection.execute(insert(schema.upload_parts).values(values))


def delete_uploads(connection: Connection, upload_ids: Sequence[str], access: Access) -> None:
    """Remove uploads, and with them what vector stores hold of them.

    Raises:
        ForbiddenError: One is there for others than `access` too, by itself or in a vector store.
    """
    for principals in connection.execute(select(table.c.principals).where(table.c.id.in_(upload_ids))).scalars():
        check_has_all(principals, access)
    files = schema.files
    sources = [f"{UPLOAD}{upload_id}" for upload_id in upload_ids]
    holding = [stored_file(row) for row in connection.execute(select(*FILE_COLUMNS).where(files.c.source.in_(sources)))]
    for file in holding:
        check_may_change(file, access)
    for vector_store_id in {file.vector_store_id for file in holding}:
        delete_files(connection, vector_store_id, [file.key for file in holding if file.vector_store_id == vector_store_id])
    for parts in (schema.upload_parts, schema.upload_principals):
        connection.execute(delete(parts).where(parts.c.upload_id.in_(upload_ids)))
    connection.execute(delete(table).where(table.c.id.in_(upload_ids)))


def _upload(row: Row[Any]) -> Upload:
    return Upload(**row._mapping)


def _readable(access: Access) -> Select[Any]:
    """Return the query for the uploads that are there for `access`: complete, not expired, and of one of its principals."""
    conditions: list[ColumnElement[bool]] = [table.c.tenant == access.tenant, uploads_there()]
    if access.principals is not None:
        named = schema.upload_principals.c
        conditions.append(table.c.id.in_(select(named.upload_id).where(named.principal.in_(access.principals))))
    return select(*_COLUMNS).where(*conditions)
