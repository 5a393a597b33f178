"""Removes what has expired, what a killed process left of an upload, and the rows of batches whose results are in files."""

import time

from sqlalchemy import delete, exists, or_, select

from rag_server.batch_types import UNFINISHED
from rag_server.store import schema
from rag_server.store.batch_rows import remove_rows
from rag_server.store.batch_schema import batch_rows, batches
from rag_server.store.database import Database
from rag_server.store.uploads import delete_uploads
from rag_server.types import Access

# An upload that was broken off, and a session that is over, are removed after this long.
ABANDONED_S = 24 * 3600
# In one transaction, so that others get their turn.
MAX_AT_ONCE = 100
MAX_ROWS_AT_ONCE = 2000


def remove_expired(database: Database) -> int:
    """Remove a portion of what has expired; return how many files, sessions and rows it was."""
    return _remove_files(database) + _remove_sessions(database) + _remove_batch_rows(database)


def _remove_files(database: Database) -> int:
    """Remove files whose time is over, with what vector stores hold of them, and incomplete ones that nobody sends any more."""
    uploads, sessions, now = schema.uploads.c, schema.upload_sessions.c, int(time.time())
    broken_off = uploads.is_complete.is_(False) & (uploads.created_at < now - ABANDONED_S)
    over = select(sessions.file_id).where(sessions.status == "pending", sessions.expires_at <= now)
    never_completed = uploads.is_complete.is_(False) & uploads.id.in_(over)
    query = select(uploads.id, uploads.tenant).where(or_(uploads.expires_at <= now, broken_off, never_completed))
    with database.read() as connection:
        found = connection.execute(query.limit(MAX_AT_ONCE)).all()
    for row in found:
        with database.write() as connection:
            delete_uploads(connection, [row.id], Access(row.tenant))
    return len(found)


def _remove_sessions(database: Database) -> int:
    """Remove the records of uploads in parts that have been over for long."""
    sessions, parts = schema.upload_sessions, schema.session_parts
    query = select(sessions.c.id).where(sessions.c.expires_at < int(time.time()) - ABANDONED_S).limit(MAX_AT_ONCE)
    with database.read() as connection:
        found = connection.execute(query).scalars().all()
    if found:
        with database.write() as connection:
            connection.execute(delete(parts).where(parts.c.session_id.in_(found)))
            connection.execute(delete(sessions).where(sessions.c.id.in_(found)))
    return len(found)


def _remove_batch_rows(database: Database) -> int:
    """Remove a portion of the rows of a batch that has ended; those of the command line stay, since they are the only copy."""
    has_ended = batches.c.status.not_in(UNFINISHED) & batches.c.input_file_id.is_not(None)
    has_rows = exists().where(batch_rows.c.batch_id == batches.c.id)
    with database.read() as connection:
        batch_id = connection.execute(select(batches.c.id).where(has_ended, has_rows).limit(1)).scalar_one_or_none()
    if batch_id is None:
        return 0
    with database.write() as connection:
        return remove_rows(connection, batch_id, MAX_ROWS_AT_ONCE)
