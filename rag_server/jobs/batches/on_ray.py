"""Answers the rows of a batch on a Ray cluster: each of its workers holds a server's parts of its own, this process records."""

import asyncio
import json
import os
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, TypeVar

from rag_server.batch_types import Batch, BatchUsage, RowResult
from rag_server.errors import MissingExtraError
from rag_server.jobs.batches.alike import Alike
from rag_server.jobs.batches.answering import MAX_FAILURES, WINDOW, Send
from rag_server.jobs.batches.outcomes import BROKEN, is_away, usage_of
from rag_server.jobs.batches.rows import Asked, asked, in_order
from rag_server.protocols import Json
from rag_server.store.batches import Batches
from rag_server.types import Caller

# Rows that a worker answers at once.
AT_ONCE = 32
MIN_WORKERS = 2
RETRY_S = 1.0
# Makes, in a worker, what its rows are sent to.
Open = Callable[[], AbstractAsyncContextManager[Send]]
T = TypeVar("T")


def ray_modules() -> Any:
    """Return Ray.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import ray.data
    except ImportError:
        raise MissingExtraError('--ray needs Ray: run `pip install "ray[data]"` here and on the cluster') from None
    return ray


def connect(ray: Any, address: str, **options: Any) -> None:
    """Connect Ray to the cluster at that address (`local`: one of this machine), quietly."""
    # Nothing of what it does leaves the machine, or is open to others where the cluster is this machine's own.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"} if address == "local" else {}
    ray.init(address=address, log_to_driver=False, **own, **options)


def record_answers(batches: Batches, batch: Batch, open_application: Open, address: str) -> None:
    """Have every row without a result answered on the cluster at that address (`local`: one of this machine), and record it.

    Raises:
        LeaseLostError: Another process has the batch.
    """
    ray = ray_modules()
    connect(ray, address)
    # The bar of the command shows how far it is.
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        alike = Alike()
        rows = alike.first_of_each(_pending(batches, batch))
        left = []
        for start in range(0, len(rows), WINDOW):
            window = rows[start : start + WINDOW]
            known = batches.answered(batch, [row.key for row in window if row.key is not None])
            copies = [(row.number, known[row.key].result) for row in window if row.key is not None and row.key in known]
            _record(batches, batch, alike, [replace(result, number=number, usage=BatchUsage()) for number, result in copies])
            left += in_order(row for row in window if row.key not in known)
        for results in _answered(ray, left, batch.caller, open_application):
            _record(batches, batch, alike, results)
    finally:
        ray.shutdown()


def _pending(batches: Batches, batch: Batch) -> Iterator[Asked]:
    after = -1
    while rows := batches.pending(batch, after, WINDOW):
        yield from map(asked, rows)
        after = rows[-1].number


def _record(batches: Batches, batch: Batch, alike: Alike, results: Sequence[RowResult]) -> None:
    copies = [replace(result, number=number, usage=BatchUsage()) for result in results for number in alike.pop(result.number)]
    if results:
        batches.record(batch, [*results, *copies])


def _answered(ray: Any, rows: Sequence[Asked], caller: Caller, open_application: Open) -> Iterator[list[RowResult]]:
    if not rows:
        return
    items = [{"number": row.number, "url": row.url, "body": json.dumps(row.body)} for row in rows]
    workers = max(MIN_WORKERS, sum(bool(node["Alive"]) for node in ray.nodes()))
    answers = ray.data.from_items(items).map_batches(
        Worker,
        fn_constructor_args=(open_application, caller),
        batch_size=AT_ONCE,
        concurrency=workers,
    )
    for told in answers.iter_batches(batch_size=None):
        columns = zip(told["number"], told["status"], told["answer"], told["request_id"], strict=True)
        yield [
            RowResult(int(number), int(status), str(answer), str(request_id), usage=usage_of(json.loads(str(answer))))
            for number, status, answer, request_id in columns
        ]


class Worker:
    """An actor of the cluster, with an event loop of its own in which its server's parts live."""

    def __init__(self, open_application: Open, caller: Caller) -> None:
        self._caller = caller
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._opened = open_application()
        self._send: Send = self._result(self._opened.__aenter__())

    def __call__(self, rows: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Answer a portion of rows, given and returned in columns."""
        return self._result(self._answer_all(rows))

    async def _answer_all(self, rows: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        asked_rows = zip(rows["url"], rows["body"], strict=True)
        answers = await asyncio.gather(*(self._answer(str(url), json.loads(str(body))) for url, body in asked_rows))
        return {
            "number": [int(number) for number in rows["number"]],
            "status": [status for status, _, _ in answers],
            "answer": [json.dumps(answer) for _, answer, _ in answers],
            "request_id": [request_id for _, _, request_id in answers],
        }

    async def _answer(self, url: str, body: Json) -> tuple[int, Json, str]:
        """Ask until there is an answer that is the row's result."""
        failures = 0
        while True:
            status, answer, request_id = await self._send(url, body, self._caller)
            failures += status in BROKEN
            if not is_away(status, answer) and (status not in BROKEN or failures >= MAX_FAILURES):
                return status, answer, request_id
            await asyncio.sleep(RETRY_S)

    def _result(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
