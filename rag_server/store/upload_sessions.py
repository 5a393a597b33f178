"""Files that are sent in parts, in any order and at the same time: nothing of them is seen before the last call."""

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, func, insert, select, update

from rag_server.errors import InvalidRequestError, NotFoundError
from rag_server.store import schema
from rag_server.store.database import Database
from rag_server.store.ids import new_id
from rag_server.store.ownership import owned, owner_of
from rag_server.store.seals import seal
from rag_server.store.uploads import PART_BYTES, begin_upload, delete_uploads, expiry_of, put_part
from rag_server.types import Access, NewUploadSession, Upload, UploadPart, UploadSession

# As in OpenAI's API.
EXPIRES_AFTER_S = 3600
MAX_PART_BYTES = 64 * 1024**2
# Parts have room for so many of the pieces that the store keeps, whatever of it they use.
PIECES_PER_PART = MAX_PART_BYTES // PART_BYTES
MAX_PARTS = 10_000

sessions, parts, pieces = schema.upload_sessions, schema.session_parts, schema.upload_parts
_COLUMNS = [sessions.c[name] for name in UploadSession.__dataclass_fields__]
_PART_COLUMNS = [parts.c[name] for name in UploadPart.__dataclass_fields__]


class UploadSessions:
    """The table of files that are being sent in parts, and of their parts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, new: NewUploadSession, access: Access) -> UploadSession:
        """Announce a file."""
        now = int(time.time())
        file = Upload(new_id("file-"), access.tenant, new.filename, new.purpose, 0, now)
        session = UploadSession(
            id=new_id("upload_"),
            file_id=file.id,
            filename=new.filename,
            purpose=new.purpose,
            mime_type=new.mime_type,
            bytes=new.bytes,
            created_at=now,
            expires_at=now + EXPIRES_AFTER_S,
            file_expires_after_s=new.file_expires_after_s,
            status="pending",
        )
        values = {name: getattr(session, name) for name in UploadSession.__dataclass_fields__}
        with self._database.write() as connection:
            begin_upload(connection, file, access)
            connection.execute(insert(sessions).values(**values, tenant=access.tenant, owner=owner_of(access)))
            seal(connection, sessions, sessions.c.id == session.id)
        return session

    def get(self, session_id: str, access: Access) -> UploadSession:
        """Return the session of that id.

        Raises:
            NotFoundError: There is none (any more), or it is another key's.
        """
        with self._database.read() as connection:
            return _get(connection, session_id, access)

    def put_part(self, session_id: str, access: Access, content: Iterable[bytes]) -> UploadPart:
        """Store a part, which comes in pieces of up to PART_BYTES; it exists once this returns.

        Raises:
            InvalidRequestError: The session is over, the part is empty, or there are more bytes than were announced.
        """
        part = UploadPart(new_id("part_"), session_id, 0, int(time.time()))
        with self._database.write() as connection:
            session = _pending(connection, session_id, access)
            first = self._reserve(connection, part)
        try:
            size = self._fill(session, access, part, first, content)
        except BaseException:
            with self._database.write() as connection:
                _drop(connection, session, part, first)
            raise
        return UploadPart(part.id, session_id, size, part.created_at)

    def complete(self, session_id: str, access: Access, part_ids: Sequence[str], *, md5: str | None) -> UploadSession:
        """Make the file of the parts, in this order; parts that are not named are dropped.

        Raises:
            InvalidRequestError: The session is over, a part is not there or named twice, or the bytes are not those announced.
        """
        if len(set(part_ids)) < len(part_ids):
            raise InvalidRequestError("a part may be named once", "part_ids")
        with self._database.read() as connection:
            session = _pending(connection, session_id, access)
            layout = _layout(connection, session, part_ids)
        if md5 is not None and self._md5(session, access, layout) != md5.lower():
            raise InvalidRequestError("the bytes that arrived do not have this MD5 sum; send the parts again", "md5")
        with self._database.write() as connection:
            session = _pending(connection, session_id, access)
            self._finish(connection, session, _layout(connection, session, part_ids))
            return _get(connection, session_id, access)

    def cancel(self, session_id: str, access: Access) -> UploadSession:
        """Give the file up; its parts are removed.

        Raises:
            InvalidRequestError: The session is over.
        """
        with self._database.write() as connection:
            session = _pending(connection, session_id, access)
            delete_uploads(connection, [session.file_id], Access(access.tenant))
            connection.execute(delete(parts).where(parts.c.session_id == session_id))
            connection.execute(update(sessions).where(sessions.c.id == session_id).values(status="cancelled"))
            seal(connection, sessions, sessions.c.id == session_id)
            return _get(connection, session_id, access)

    def _reserve(self, connection: Connection, part: UploadPart) -> int:
        """Make the row of a part that is coming in; return the number of its first piece."""
        of_session = parts.c.session_id == part.session_id
        query = select(func.count(), func.max(parts.c.first_number)).where(of_session)
        num_parts, last = connection.execute(query).one()
        if num_parts >= MAX_PARTS:
            raise InvalidRequestError(f"an upload may have {MAX_PARTS} parts; send larger ones", "data")
        first = 0 if last is None else last + PIECES_PER_PART
        values = {name: getattr(part, name) for name in UploadPart.__dataclass_fields__}
        connection.execute(insert(parts).values(**values, first_number=first, num_pieces=0, is_complete=False))
        seal(connection, parts, parts.c.id == part.id)
        return first

    def _fill(self, session: UploadSession, access: Access, part: UploadPart, first: int, content: Iterable[bytes]) -> int:
        """Store the pieces of a part; return its size."""
        size = count = 0
        for piece in content:
            with self._database.write() as connection:
                _pending(connection, session.id, access)
                _check_room(connection, session, size + len(piece))
                put_part(connection, session.file_id, first + count, piece)
                count, size = count + 1, size + len(piece)
                self._grow(connection, part.id, count, size, is_complete=False)
        if size == 0:
            raise InvalidRequestError("the part is empty; send some bytes in `data`", "data")
        with self._database.write() as connection:
            _pending(connection, session.id, access)
            _check_room(connection, session, size)
            self._grow(connection, part.id, count, size, is_complete=True)
        return size

    def _grow(self, connection: Connection, part_id: str, count: int, size: int, *, is_complete: bool) -> None:
        values = {"num_pieces": count, "bytes": size, "is_complete": is_complete}
        connection.execute(update(parts).where(parts.c.id == part_id).values(values))
        seal(connection, parts, parts.c.id == part_id)

    def _md5(self, session: UploadSession, access: Access, layout: Sequence[tuple[int, int]]) -> str:
        digest = hashlib.md5(usedforsecurity=False)
        for content in self._pieces(session, access, layout):
            digest.update(content)
        return digest.hexdigest()

    def _pieces(self, session: UploadSession, access: Access, layout: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        for first, count in layout:
            for number in range(first, first + count):
                query = select(pieces.c.content).where(pieces.c.upload_id == session.file_id, pieces.c.number == number)
                with self._database.read() as connection:
                    # One that was cancelled meanwhile has no pieces any more.
                    _pending(connection, session.id, access)
                    yield connection.execute(query).scalar_one()

    def _finish(self, connection: Connection, session: UploadSession, layout: Sequence[tuple[int, int]]) -> None:
        """Make the file visible, without the pieces of parts that it has not."""
        used = {number for first, count in layout for number in range(first, first + count)}
        stored = connection.execute(select(pieces.c.number).where(pieces.c.upload_id == session.file_id)).scalars()
        for number in [number for number in stored if number not in used]:
            connection.execute(delete(pieces).where(pieces.c.upload_id == session.file_id, pieces.c.number == number))
        connection.execute(delete(parts).where(parts.c.session_id == session.id))
        uploads, now = schema.uploads, int(time.time())
        made = {"is_complete": True, "bytes": session.bytes, "layout": [list(run) for run in layout], "created_at": now}
        made["expires_at"] = expiry_of(session.purpose, session.file_expires_after_s, now)
        connection.execute(update(uploads).where(uploads.c.id == session.file_id).values(made))
        seal(connection, uploads, uploads.c.id == session.file_id)
        connection.execute(update(sessions).where(sessions.c.id == session.id).values(status="completed"))
        seal(connection, sessions, sessions.c.id == session.id)


def _mine(session_id: str, access: Access) -> Select[tuple[Any, ...]]:
    of_key: ColumnElement[bool] = owned(sessions, access)
    return select(*_COLUMNS).where(of_key, sessions.c.id == session_id)


def _get(connection: Connection, session_id: str, access: Access) -> UploadSession:
    row = connection.execute(_mine(session_id, access)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no upload {session_id!r}; begin one with POST /v1/uploads")
    return _session(row)


def _session(row: Row[Any]) -> UploadSession:
    is_expired = row.status == "pending" and row.expires_at <= time.time()
    return UploadSession(**{**row._mapping, "status": "expired" if is_expired else row.status})


def _pending(connection: Connection, session_id: str, access: Access) -> UploadSession:
    """Return a session that still takes parts."""
    session = _get(connection, session_id, access)
    if session.status != "pending":
        raise InvalidRequestError(f"the upload {session_id!r} is {session.status}; begin another one", "upload_id")
    return session


def _check_room(connection: Connection, session: UploadSession, num_bytes: int) -> None:
    """Refuse more than twice of what was announced: the parts once, and again those whose acknowledgement was lost.

    Parts that are not whole are not counted before they are: what a process that was killed left takes no room from the others.
    """
    query = select(func.coalesce(func.sum(parts.c.bytes), 0)).where(parts.c.session_id == session.id, parts.c.is_complete)
    if connection.execute(query).scalar_one() + num_bytes > 2 * session.bytes:
        raise InvalidRequestError(f"{session.bytes} bytes were announced, and the parts hold more than that", "data")


def _drop(connection: Connection, session: UploadSession, part: UploadPart, first: int) -> None:
    """Remove a part that broke off."""
    of_part = pieces.c.number.between(first, first + PIECES_PER_PART - 1)
    connection.execute(delete(pieces).where(pieces.c.upload_id == session.file_id, of_part))
    connection.execute(delete(parts).where(parts.c.id == part.id))


def _layout(connection: Connection, session: UploadSession, part_ids: Sequence[str]) -> list[tuple[int, int]]:
    """Return the runs of pieces, each as first number and count, that the parts are in this order."""
    complete = select(parts).where(parts.c.session_id == session.id, parts.c.is_complete)
    found = {row.id: row for row in connection.execute(complete)}
    for part_id in part_ids:
        if part_id not in found:
            raise InvalidRequestError(f"there is no part {part_id!r} of this upload", "part_ids")
    size = sum(found[part_id].bytes for part_id in part_ids)
    if size != session.bytes:
        raise InvalidRequestError(
            f"{session.bytes} bytes were announced, and these parts have {size}; name each part in its place", "part_ids"
        )
    return [(found[part_id].first_number, found[part_id].num_pieces) for part_id in part_ids]
