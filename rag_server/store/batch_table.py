"""Reads and changes single rows of the table of batches, inside a transaction of the caller."""

import json
import time
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, insert, select, update

from rag_server.batch_types import COMPLETION_WINDOW_S, Batch, BatchError, BatchUsage, NewBatch
from rag_server.errors import NotFoundError
from rag_server.store.batch_schema import batches as table
from rag_server.store.ids import new_id
from rag_server.store.ownership import owned, owner_of
from rag_server.store.seals import seal
from rag_server.types import Access, Caller

_USAGE = tuple(BatchUsage.__dataclass_fields__)
_COUNTS = ("total", "completed", "failed", "last_sequence", *_USAGE)
# What a row does not hold under the field's own name.
_MADE = {"access", "scopes", "errors", "usage"}
_TIMES_OF_ENDING = ("finalizing_at", "completed_at", "expired_at", "cancelling_at", "cancelled_at")


def insert_batch(connection: Connection, new: NewBatch, caller: Caller) -> Batch:
    """Make a batch without rows."""
    now = int(time.time())
    values = {
        "id": new_id("batch_"),
        "kind": new.kind,
        "tenant": caller.access.tenant,
        "owner": owner_of(caller.access),
        "key_id": caller.key_id,
        "scopes": None if caller.scopes is None else sorted(caller.scopes),
        "endpoint": new.endpoint,
        "input_file_id": new.input_file_id,
        "metadata": dict(new.metadata),
        "output_expires_after_s": new.output_expires_after_s,
        "fingerprint": new.fingerprint,
        "status": "validating",
        "created_at": now,
        "expires_at": None if new.expires_after_s is None else now + new.expires_after_s,
        "errors": [],
        "leased_at": 0.0,
        **dict.fromkeys(_COUNTS, 0),
    }
    connection.execute(insert(table).values(values))
    seal(connection, table, table.c.id == values["id"])
    return one_batch(connection, table.c.id == values["id"])


def one_batch(connection: Connection, *conditions: ColumnElement[bool]) -> Batch:
    """Return the only batch of which the conditions hold.

    Raises:
        NotFoundError: There is none.
    """
    row = connection.execute(select(table).where(*conditions)).one_or_none()
    if row is None:
        raise NotFoundError("there is no such batch")
    return batch_of(row)


def find_batch(connection: Connection, fingerprint: str, access: Access) -> Batch | None:
    """Return the batch of that fingerprint, if there is one that keys with these principals made."""
    made_by = (table.c.tenant == access.tenant, table.c.owner == owner_of(access))
    row = connection.execute(select(table).where(table.c.fingerprint == fingerprint, *made_by)).one_or_none()
    return None if row is None else batch_of(row)


def batch_for(connection: Connection, batch_id: str, access: Access, *conditions: ColumnElement[bool]) -> Batch:
    """Return the batch of that id of which the conditions hold.

    Raises:
        NotFoundError: There is none, or it is another key's.
    """
    row = connection.execute(select(table).where(table.c.id == batch_id, owned(table, access), *conditions)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no batch {batch_id!r}")
    return batch_of(row)


def change_batch(connection: Connection, batch: Batch, **values: Any) -> Batch:
    """Change what its checksum does not cover; return the batch as it is now."""
    connection.execute(update(table).where(table.c.id == batch.id).values(values))
    return one_batch(connection, table.c.id == batch.id)


def resume_batch(connection: Connection, batch: Batch) -> Batch:
    """Take up again a batch that has ended, with another day where it had one."""
    values: dict[str, Any] = {"status": "in_progress", "lease_owner": None, "lease_until": None}
    values |= dict.fromkeys(("output_file_id", "error_file_id", *_TIMES_OF_ENDING))
    if batch.expires_at is not None:
        values["expires_at"] = int(time.time()) + COMPLETION_WINDOW_S
    return change_batch(connection, batch, **values)


def batch_of(row: Row[Any]) -> Batch:
    """Return the batch that a row of the table is."""
    found = row._mapping
    principals = None if not row.owner else frozenset(json.loads(row.owner))
    return Batch(
        **{name: found[name] for name in Batch.__dataclass_fields__ if name not in _MADE},
        access=Access(row.tenant, principals),
        scopes=None if row.scopes is None else frozenset(row.scopes),
        errors=tuple(BatchError(*error) for error in row.errors),
        usage=BatchUsage(**{name: found[name] for name in _USAGE}),
    )
