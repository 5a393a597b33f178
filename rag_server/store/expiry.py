"""Removes what has expired: files, uploads in parts that were never completed, and what a killed process left of an upload."""

import time

from sqlalchemy import delete, or_, select

from rag_server.store import schema
from rag_server.store.database import Database
from rag_server.store.uploads import delete_uploads
from rag_server.types import Access

# An upload that was broken off, and a session that is over, are removed after this long.
ABANDONED_S = 24 * 3600
# In one transaction, so that others get their turn.
MAX_AT_ONCE = 100


def remove_expired(database: Database) -> int:
    """Remove a portion of what has expired; return how many files and sessions it was."""
    return _remove_files(database) + _remove_sessions(database)


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
