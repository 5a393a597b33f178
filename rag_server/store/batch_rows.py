"""The rows of batches and their results. A result is written once, by the process that holds the batch's lease."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

from sqlalchemy import Connection, Row, Select, and_, delete, func, insert, select, update

from rag_server.batch_types import BatchRow, BatchUsage, FinishedRow, RowError, RowResult, RowStatus
from rag_server.store.batch_schema import batch_results as results
from rag_server.store.batch_schema import batch_rows as rows
from rag_server.store.batch_schema import batches
from rag_server.store.seals import seal_of

_OF_RESULT = and_(results.c.batch_id == rows.c.batch_id, results.c.number == rows.c.number)
_ROW_COLUMNS = (rows.c.number, rows.c.custom_id, rows.c.request, rows.c.key)
_RESULT_COLUMNS = [column for column in results.c if column.name not in ("batch_id", "number", "checksum")]
_USAGE = tuple(BatchUsage.__dataclass_fields__)


def insert_rows(connection: Connection, batch_id: str, new: Sequence[BatchRow]) -> int:
    """Add rows in the order of their numbers; those up to the last one that is there are passed over. Return how many came."""
    newest = connection.execute(select(func.max(rows.c.number)).where(rows.c.batch_id == batch_id)).scalar_one()
    added = [row for row in new if newest is None or row.number > newest]
    if added:
        connection.execute(insert(rows), [_row_values(batch_id, row) for row in added])
        statement = update(batches).where(batches.c.id == batch_id)
        connection.execute(statement.values(total=batches.c.total + len(added)))
        insert_results(connection, batch_id, [RowResult(row.number, error=row.error) for row in added if row.error])
    return len(added)


def pending_rows(connection: Connection, batch_id: str, after: int, limit: int) -> list[BatchRow]:
    """Return the next rows without a result."""
    query = _pending(batch_id, *_ROW_COLUMNS).where(rows.c.number > after).order_by(rows.c.number).limit(limit)
    return [BatchRow(*row) for row in connection.execute(query)]


def pending_numbers(connection: Connection, batch_id: str, limit: int) -> list[int]:
    """Return the numbers of the next rows without a result."""
    query = _pending(batch_id, rows.c.number).order_by(rows.c.number).limit(limit)
    return list(connection.execute(query).scalars())


def insert_results(connection: Connection, batch_id: str, new: Sequence[RowResult]) -> int:
    """Write the results of rows that have none, each row's first; count them. Return how many it were."""
    numbers = [result.number for result in new]
    waiting = set(connection.execute(_pending(batch_id, rows.c.number).where(rows.c.number.in_(numbers))).scalars())
    taken: list[RowResult] = []
    for result in new:
        if result.number in waiting:
            waiting.remove(result.number)
            taken.append(result)
    if not taken:
        return 0
    failed = sum(result.status == "failed" for result in taken)
    counted = {"last_sequence": len(taken), "completed": len(taken) - failed, "failed": failed}
    counted |= {name: sum(getattr(result.usage, name) for result in taken) for name in _USAGE}
    last = _count(connection, batch_id, counted)
    values = [_result_values(batch_id, result, last - len(taken) + 1 + place) for place, result in enumerate(taken)]
    connection.execute(insert(results), values)
    return len(taken)


def finished_rows(
    connection: Connection,
    batch_id: str,
    after: int,
    limit: int,
    *,
    by: Literal["sequence", "number"],
    status: RowStatus | None,
) -> list[FinishedRow]:
    """Return the rows with a result of that status whose sequence or number is the next after `after`."""
    place = results.c[by]
    query = _finished(batch_id).where(place > after).order_by(place).limit(limit)
    if status is not None:
        query = query.where(results.c.status == status)
    return [_finished_row(row) for row in connection.execute(query)]


def answered_rows(connection: Connection, batch_id: str, keys: Sequence[str]) -> dict[str, FinishedRow]:
    """Return, for each of the keys that a row was answered for, one such row."""
    query = _finished(batch_id).where(rows.c.batch_id == batch_id, rows.c.key.in_(keys), results.c.status == "completed")
    return {row.key: _finished_row(row) for row in connection.execute(query)}


def remove_failures(connection: Connection, batch_id: str) -> int:
    """Remove the results of rows that failed and can be asked again. Return how many it were."""
    may = select(rows.c.number).where(rows.c.batch_id == batch_id, rows.c.is_refused.is_(False))
    failed = and_(results.c.batch_id == batch_id, results.c.status == "failed", results.c.number.in_(may))
    sums = [func.coalesce(func.sum(results.c[name]), 0).label(name) for name in _USAGE]
    found = connection.execute(select(func.count().label("failed"), *sums).where(failed)).one()
    connection.execute(delete(results).where(failed))
    _count(connection, batch_id, {name: -int(value) for name, value in found._mapping.items()})
    return int(found.failed)


def remove_rows(connection: Connection, batch_id: str, limit: int | None = None) -> int:
    """Remove the first rows of a batch with their results, all of them without a limit. Return how many it were."""
    numbers = select(rows.c.number).where(rows.c.batch_id == batch_id).order_by(rows.c.number).limit(limit)
    for table in (results, rows):
        removed = connection.execute(delete(table).where(table.c.batch_id == batch_id, table.c.number.in_(numbers)))
    return removed.rowcount


def _pending(batch_id: str, *columns: Any) -> Select[Any]:
    joined = rows.outerjoin(results, _OF_RESULT)
    return select(*columns).select_from(joined).where(rows.c.batch_id == batch_id, results.c.number.is_(None))


def _finished(batch_id: str) -> Select[Any]:
    joined = results.join(rows, _OF_RESULT)
    return select(*_ROW_COLUMNS, *_RESULT_COLUMNS).select_from(joined).where(results.c.batch_id == batch_id)


def _count(connection: Connection, batch_id: str, changes: dict[str, int]) -> int:
    """Add to the numbers of a batch; return its last sequence."""
    values = {name: batches.c[name] + change for name, change in changes.items()}
    statement = update(batches).where(batches.c.id == batch_id).values(values).returning(batches.c.last_sequence)
    return int(connection.execute(statement).scalar_one())


def _row_values(batch_id: str, row: BatchRow) -> dict[str, Any]:
    values = {
        "batch_id": batch_id,
        "number": row.number,
        "custom_id": row.custom_id,
        "request": row.request,
        "key": row.key,
        "is_refused": row.error is not None,
    }
    return {**values, "checksum": seal_of(rows, values)}


def _result_values(batch_id: str, result: RowResult, sequence: int) -> dict[str, Any]:
    values = {
        "batch_id": batch_id,
        "number": result.number,
        "sequence": sequence,
        "status": result.status,
        "status_code": result.status_code,
        "response": result.response,
        "request_id": result.request_id,
        "error_code": None if result.error is None else result.error.code,
        "error_message": None if result.error is None else result.error.message,
        **asdict(result.usage),
        "finished_at": time.time(),
    }
    return {**values, "checksum": seal_of(results, values)}


def _finished_row(row: Row[Any]) -> FinishedRow:
    error = None if row.error_code is None else RowError(row.error_code, row.error_message)
    usage = BatchUsage(**{name: row._mapping[name] for name in _USAGE})
    result = RowResult(row.number, row.status_code, row.response, row.request_id, error, usage)
    return FinishedRow(BatchRow(row.number, row.custom_id, row.request, row.key), result, row.sequence, row.finished_at)
