"""Batches of requests: found, changed, and worked on by one process at a time, which alone records what its rows got."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from sqlalchemy import Connection, delete, select, update

from rag_server.batch_types import (
    Batch,
    BatchEndedError,
    BatchError,
    BatchRow,
    FinishedRow,
    LeaseLostError,
    NewBatch,
    RowError,
    RowResult,
    RowStatus,
)
from rag_server.errors import InvalidRequestError
from rag_server.store import batch_rows
from rag_server.store.batch_leases import LEASE_S, is_leased, next_batch
from rag_server.store.batch_schema import batches as table
from rag_server.store.batch_table import (
    batch_for,
    batch_of,
    change_batch,
    find_batch,
    insert_batch,
    one_batch,
    resume_batch,
)
from rag_server.store.database import Database
from rag_server.store.lease_owner import new_owner
from rag_server.store.ownership import owned
from rag_server.store.paging import page_of
from rag_server.types import Access, Caller, Page

ENDED = ("completed", "expired", "cancelled")


class Batches:
    """The tables of batches. Every change is one durable transaction; `owner` is this process in the leases."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.owner = new_owner()

    def create(self, new: NewBatch, caller: Caller) -> Batch:
        """Make a batch without rows, or return the one of the same fingerprint, as it is."""
        with self._database.write() as connection:
            if new.fingerprint is not None and (found := find_batch(connection, new.fingerprint, caller.access)) is not None:
                return found
            return insert_batch(connection, new, caller)

    def get(self, batch_id: str, access: Access) -> Batch:
        """Return the batch of that id that was made of a file.

        Raises:
            NotFoundError: There is none, or it is another key's.
        """
        with self._database.read() as connection:
            return batch_for(connection, batch_id, access, table.c.input_file_id.is_not(None))

    def fresh(self, batch: Batch) -> Batch:
        """Return a batch as it is now, whoever made it.

        Raises:
            NotFoundError: It was deleted.
        """
        with self._database.read() as connection:
            return one_batch(connection, table.c.id == batch.id)

    def find(self, fingerprint: str, access: Access) -> Batch | None:
        """Return the batch of that fingerprint, if there is one."""
        with self._database.read() as connection:
            return find_batch(connection, fingerprint, access)

    def page(self, access: Access, page: Page) -> tuple[list[Batch], bool]:
        """Return a page of the batches that were made of files, in the order in which they came, and whether there are more."""
        query = select(table).where(owned(table, access), table.c.input_file_id.is_not(None))
        with self._database.read() as connection:
            found, has_more = page_of(connection, query, page, id_=table.c.id, position=[table.c.created_at, table.c.id])
        return [batch_of(row) for row in found], has_more

    def add_rows(self, batch: Batch, rows: Sequence[BatchRow]) -> int:
        """Add rows in the order of their numbers, in portions; those that are there already are passed over.

        Returns:
            How many came in; those with an error have failed already.

        Raises:
            LeaseLostError: Another process works on the batch.
        """
        with self._ours(batch, or_free=True) as connection:
            return batch_rows.insert_rows(connection, batch.id, rows)

    def begin(self, batch: Batch, *, model: str | None = None) -> Batch:
        """Let the rows of a batch be answered; one of the command line that has ended is taken up again.

        Returns:
            The batch as it is now: it may have been cancelled meanwhile, and then stays so.

        Raises:
            LeaseLostError: Another process works on the batch.
        """
        with self._ours(batch, or_free=True) as connection:
            found = one_batch(connection, table.c.id == batch.id)
            if found.status == "validating":
                change_batch(connection, batch, status="in_progress", in_progress_at=int(time.time()), model=model)
            elif found.input_file_id is None and found.status in ENDED:
                resume_batch(connection, found)
            return one_batch(connection, table.c.id == batch.id)

    def fail(self, batch: Batch, errors: Sequence[BatchError]) -> Batch:
        """Give a batch up over its input; no row is answered.

        Returns:
            The batch as it is now: it may have been cancelled meanwhile, and then stays so.

        Raises:
            LeaseLostError: Another process works on the batch.
        """
        listed = [[error.code, error.message, error.line, error.param] for error in errors]
        ended = {"status": "failed", "failed_at": int(time.time()), "lease_owner": None, "lease_until": None}
        with self._ours(batch, or_free=True) as connection:
            if one_batch(connection, table.c.id == batch.id).status == "validating":
                change_batch(connection, batch, **ended, errors=listed, total=0, completed=0, failed=0)
            return one_batch(connection, table.c.id == batch.id)

    def cancel(self, batch_id: str, access: Access) -> Batch:
        """Ask for the end of a batch; whoever works on it ends it.

        Raises:
            NotFoundError: There is none of that id, or it is another key's.
            BatchEndedError: It has ended, or is about to.
        """
        with self._database.write() as connection:
            batch = batch_for(connection, batch_id, access)
            if batch.status in ("validating", "in_progress"):
                change_batch(connection, batch, status="cancelling", cancelling_at=int(time.time()))
            elif batch.status != "cancelling":
                raise BatchEndedError(f"a batch with the status {batch.status!r} cannot be cancelled")
            return one_batch(connection, table.c.id == batch_id)

    def delete(self, batch: Batch) -> None:
        """Remove a batch with its rows; whoever works on it loses its lease."""
        with self._database.write() as connection:
            batch_rows.remove_rows(connection, batch.id)
            connection.execute(delete(table).where(table.c.id == batch.id))

    def retry_failed(self, batch: Batch) -> int:
        """Let the rows that failed be answered once more, except those that cannot be; return how many they are.

        Raises:
            InvalidRequestError: It is being ended, or was not begun yet.
        """
        with self._database.write() as connection:
            found = one_batch(connection, table.c.id == batch.id)
            if found.status not in ("in_progress", *ENDED):
                raise InvalidRequestError(f"the batch is {found.status} now; wait until that is over", "batch_id")
            count = batch_rows.remove_failures(connection, batch.id)
            if count and found.status in ENDED:
                resume_batch(connection, found)
            return count

    def lease(self) -> Batch | None:
        """Take a batch that waits for work, or whose process has ended, for this process; the tenants take turns."""
        with self._database.read() as connection:
            if next_batch(connection) is None:
                return None
        with self._database.write() as connection:
            batch_id = next_batch(connection)
            if batch_id is None:
                return None
            now = time.time()
            leased = {"lease_owner": self.owner, "lease_until": now + LEASE_S, "leased_at": now}
            connection.execute(update(table).where(table.c.id == batch_id).values(leased))
            return one_batch(connection, table.c.id == batch_id)

    def take(self, batch: Batch) -> Batch:
        """Take this very batch for this process, whatever its status.

        Raises:
            LeaseLostError: Another process works on it, or it was deleted.
        """
        with self._database.write() as connection:
            held = connection.execute(
                select(table.c.lease_owner, table.c.lease_until).where(table.c.id == batch.id)
            ).one_or_none()
            if held is None or (held.lease_owner != self.owner and is_leased(held)):
                raise LeaseLostError(f"the batch {batch.id} is worked on by another process, or was deleted")
            now = time.time()
            return change_batch(connection, batch, lease_owner=self.owner, lease_until=now + LEASE_S, leased_at=now)

    def renew(self, batch: Batch) -> Batch:
        """Keep the lease for another LEASE_S; return the batch as it is now.

        Raises:
            LeaseLostError: Another process has it, or it was deleted.
        """
        with self._ours(batch) as connection:
            return change_batch(connection, batch, lease_until=time.time() + LEASE_S)

    def release(self, batch: Batch) -> None:
        """Let another process go on with a batch."""
        with self._database.write() as connection:
            mine = (table.c.id == batch.id, table.c.lease_owner == self.owner)
            connection.execute(update(table).where(*mine).values(lease_owner=None, lease_until=None))

    def pending(self, batch: Batch, after: int = -1, limit: int = 512) -> list[BatchRow]:
        """Return the next rows after the number `after` that have no result."""
        with self._database.read() as connection:
            return batch_rows.pending_rows(connection, batch.id, after, limit)

    def record(self, batch: Batch, results: Sequence[RowResult]) -> int:
        """Write results down, all or none; a row that has one keeps it. Return how many were new.

        Raises:
            LeaseLostError: Another process has the batch; nothing is written.
        """
        with self._ours(batch) as connection:
            return batch_rows.insert_results(connection, batch.id, results)

    def fail_pending(self, batch: Batch, error: RowError, limit: int = 1000) -> int:
        """Let rows without a result fail, a portion of them; return how many, 0 once there are none.

        Raises:
            LeaseLostError: Another process has the batch.
        """
        with self._ours(batch) as connection:
            numbers = batch_rows.pending_numbers(connection, batch.id, limit)
            return batch_rows.insert_results(connection, batch.id, [RowResult(number, error=error) for number in numbers])

    def results(
        self,
        batch: Batch,
        after: int = -1,
        limit: int = 512,
        *,
        by: Literal["sequence", "number"] = "sequence",
        status: RowStatus | None = None,
    ) -> list[FinishedRow]:
        """Return the next finished rows, in the order of finishing or of the input; `after` is a sequence or a number."""
        with self._database.read() as connection:
            return batch_rows.finished_rows(connection, batch.id, after, limit, by=by, status=status)

    def answered(self, batch: Batch, keys: Sequence[str]) -> dict[str, FinishedRow]:
        """Return, for each of the keys that a row of the batch was answered for, one such row."""
        with self._database.read() as connection:
            return batch_rows.answered_rows(connection, batch.id, keys)

    def finalize(self, batch: Batch, *, expired: bool = False) -> Batch:
        """Begin the end of a batch in progress, because all is done or its time is over.

        Returns:
            The batch as it is now: it may have been cancelled meanwhile, and then stays so.

        Raises:
            LeaseLostError: Another process has the batch.
        """
        now = int(time.time())
        with self._ours(batch) as connection:
            if one_batch(connection, table.c.id == batch.id).status == "in_progress":
                change_batch(connection, batch, status="finalizing", finalizing_at=now, expired_at=now if expired else None)
            return one_batch(connection, table.c.id == batch.id)

    def finish(
        self,
        batch: Batch,
        status: Literal["completed", "expired", "cancelled"],
        *,
        output_file_id: str | None = None,
        error_file_id: str | None = None,
    ) -> Batch:
        """End a batch, whose files are written, and its lease.

        Raises:
            LeaseLostError: Another process has the batch.
        """
        values: dict[str, Any] = {"status": status, "output_file_id": output_file_id, "error_file_id": error_file_id}
        if status != "expired" or batch.expired_at is None:
            values[f"{status}_at"] = int(time.time())
        with self._ours(batch) as connection:
            return change_batch(connection, batch, **values, lease_owner=None, lease_until=None)

    @contextmanager
    def _ours(self, batch: Batch, *, or_free: bool = False) -> Iterator[Connection]:
        """Give a write transaction over a batch that this process has leased or, with `or_free`, nobody has."""
        with self._database.write() as connection:
            held = connection.execute(select(table.c.id, table.c.lease_owner).where(table.c.id == batch.id)).one_or_none()
            if held is None or (held.lease_owner != self.owner and not (or_free and held.lease_owner is None)):
                raise LeaseLostError(f"the batch {batch.id} is worked on by another process, or was deleted")
            yield connection
