"""Uploaded files, kept in parts so that neither a request nor an indexing process holds one whole in memory."""

import secrets
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from rag_server.errors import InvalidRequestError, NotFoundError, StoreDamagedError
from rag_server.store import schema
from rag_server.store.database import Database
from rag_server.store.seals import seal
from rag_server.types import Access, Upload

PART_BYTES = 4 * 1024**2
# An upload that was broken off is removed after this long.
ABANDONED_S = 24 * 3600

table = schema.uploads
_COLUMNS = [table.c[name] for name in Upload.__dataclass_fields__]


class Uploads:
    """The table of uploads and their parts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, access: Access, *, filename: str, purpose: str, content: Iterable[bytes]) -> Upload:
        """Store a file; it exists once this returns, and not at all if it breaks off before."""
        upload = Upload(f"file-{secrets.token_hex(12)}", access.tenant, filename, purpose, 0, int(time.time()))
        self._begin(upload, access)
        size = 0
        for number, part in enumerate(content):
            values = {"upload_id": upload.id, "number": number, "content": part, "checksum": zlib.crc32(part)}
            with self._database.write() as connection:
                connection.execute(insert(schema.upload_parts).values(values))
            size += len(part)
        with self._database.write() as connection:
            connection.execute(update(table).where(table.c.id == upload.id).values(bytes=size, is_complete=True))
            seal(connection, table, table.c.id == upload.id)
        return self.get(upload.id, access)

    def readable(self, access: Access) -> list[Upload]:
        """Return the uploads that `access` may read, oldest first."""
        return self._readable(access)

    def get(self, upload_id: str, access: Access) -> Upload:
        """Return the upload of that id.

        Raises:
            NotFoundError: There is none, or it is closed to `access`.
        """
        found = self._readable(access, table.c.id == upload_id)
        if not found:
            raise NotFoundError(f"there is no file {upload_id!r}; upload it first")
        return found[0]

    def content(self, upload_id: str) -> Iterator[bytes]:
        """Yield the bytes of an upload in parts.

        Raises:
            NotFoundError: It was deleted.
            StoreDamagedError: They are not those that were stored.
        """
        parts = schema.upload_parts.c
        number = 0
        while True:
            query = select(parts.content, parts.checksum).where(parts.upload_id == upload_id, parts.number == number)
            with self._database.read() as connection:
                row = connection.execute(query).one_or_none()
                if row is None:
                    if connection.execute(select(table.c.id).where(table.c.id == upload_id)).one_or_none() is None:
                        raise NotFoundError(f"the file {upload_id!r} was deleted")
                    return
            if zlib.crc32(row.content) != row.checksum:
                raise StoreDamagedError(f"part {number} of the file {upload_id} is damaged in the store; upload it again")
            yield row.content
            number += 1

    def delete(self, upload: Upload) -> None:
        """Remove an upload.

        Raises:
            InvalidRequestError: A vector store still holds it.
        """
        files = schema.files.c
        with self._database.write() as connection:
            holding = select(files.vector_store_id).where(files.source == f"upload:{upload.id}")
            holders = connection.execute(holding).scalars().all()
            if holders:
                raise InvalidRequestError(
                    f"the file {upload.id!r} is in the vector store {holders[0]}; delete it there first", "file_id"
                )
            _delete(connection, [upload.id])

    def _readable(self, access: Access, *conditions: ColumnElement[bool]) -> list[Upload]:
        query = select(*_COLUMNS, table.c.principals).where(table.c.tenant == access.tenant, table.c.is_complete, *conditions)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(table.c.created_at, table.c.id)).all()
        return [
            Upload(*row[: len(_COLUMNS)])
            for row in rows
            if access.principals is None or not access.principals.isdisjoint(row.principals or ())
        ]

    def _begin(self, upload: Upload, access: Access) -> None:
        """Make the row that the parts refer to, and remove what was broken off long ago."""
        values = {name: getattr(upload, name) for name in Upload.__dataclass_fields__}
        values["principals"] = None if access.principals is None else sorted(access.principals)
        old = select(table.c.id).where(table.c.is_complete.is_(False), table.c.created_at < upload.created_at - ABANDONED_S)
        with self._database.write() as connection:
            _delete(connection, connection.execute(old).scalars().all())
            connection.execute(insert(table).values(**values, is_complete=False))
            seal(connection, table, table.c.id == upload.id)


def _delete(connection: Connection, upload_ids: Sequence[str]) -> None:
    connection.execute(delete(schema.upload_parts).where(schema.upload_parts.c.upload_id.in_(upload_ids)))
    connection.execute(delete(table).where(table.c.id.in_(upload_ids)))
