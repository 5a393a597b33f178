"""Whose turn it is: batches are worked on by one process at a time, and the tenants take turns."""

import time
from typing import Any

from sqlalchemy import Connection, Row, and_, func, not_, select

from rag_server.batch_types import UNFINISHED
from rag_server.store.batch_schema import batches as table
from rag_server.store.lease_owner import has_ended

# Renewed all the time; another process takes over after so long without.
LEASE_S = 15.0


def next_batch(connection: Connection) -> str | None:
    """Return the id of the batch to work on next, None where none waits.

    Of the tenants with the fewest batches at work, the one that has waited longest gets its oldest.
    """
    added_elsewhere = and_(table.c.status == "validating", table.c.input_file_id.is_(None))
    query = select(table.c.id, table.c.tenant, table.c.created_at, table.c.lease_owner, table.c.lease_until)
    unfinished = connection.execute(query.where(table.c.status.in_(UNFINISHED), not_(added_elsewhere))).all()
    waiting = [row for row in unfinished if not is_leased(row)]
    if not waiting:
        return None
    at_work = [row.tenant for row in unfinished if is_leased(row)]
    served = select(table.c.tenant, func.max(table.c.leased_at)).where(table.c.tenant.in_({row.tenant for row in waiting}))
    last_served = {tenant: leased_at for tenant, leased_at in connection.execute(served.group_by(table.c.tenant))}
    turn = min(waiting, key=lambda row: (at_work.count(row.tenant), last_served[row.tenant], row.created_at, row.id))
    return str(turn.id)


def is_leased(row: Row[*tuple[Any, ...]]) -> bool:
    """Return whether a process works on the batch that a row of the table is."""
    return row.lease_owner is not None and row.lease_until >= time.time() and not has_ended(row.lease_owner)
