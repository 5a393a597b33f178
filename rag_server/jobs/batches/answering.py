"""Answers the rows of one batch: each once, those that are alike with one answer, and those that may pass again and again."""

import asyncio
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

from rag_server.batch_types import Batch, BatchUsage, RowResult
from rag_server.jobs.batches.alike import Alike
from rag_server.jobs.batches.gate import Gate
from rag_server.jobs.batches.outcomes import BROKEN, error_of, is_away, usage_of
from rag_server.jobs.batches.recording import Recorder
from rag_server.jobs.batches.rows import Asked, asked, in_order
from rag_server.protocols import Json
from rag_server.store.batches import Batches
from rag_server.task_end import end_tasks
from rag_server.types import Caller

# So many rows are read at a time, and ordered among themselves.
WINDOW = 512
# After so many failures that were a row's own, as far as can be told, the last one is its result.
MAX_FAILURES = 5
# Before the second try; longer before each further one.
BROKEN_DELAY_S = 1.0

# Asks the application as that caller; returns status, body and the id of the request.
Send = Callable[[str, Json, Caller], Awaitable[tuple[int, Json, str]]]


class Answering:
    """The rows of a batch that has been leased."""

    def __init__(self, batches: Batches, batch: Batch, gate: Gate, send: Send) -> None:
        self._batches = batches
        self._batch = batch
        self._gate = gate
        self._send = send
        self.recorder = Recorder(batches, batch, self._note_recorded)
        self._read_to = -1
        self._is_all_read = False
        self._window: deque[Asked] = deque()
        # Those that are to be asked again.
        self._again: deque[Asked] = deque()
        self._failures: Counter[int] = Counter()
        self._alike = Alike()
        self._running: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Return once every row has a result that is written down.

        Raises:
            LeaseLostError: Another process has the batch.
        """
        recording = asyncio.ensure_future(self.recorder.run())
        beginning = asyncio.ensure_future(self._begin_rows())
        try:
            await asyncio.wait({recording, beginning}, return_when=asyncio.FIRST_COMPLETED)
            if recording.done():
                await recording
            await beginning
        finally:
            await end_tasks(recording, beginning, *self._running)
        await self.recorder.flush()

    async def _begin_rows(self) -> None:
        async for row in self._rows():
            await self.recorder.room()
            began_at = await self._gate.enter()
            task = asyncio.create_task(self._answer(row, began_at))
            self._running.add(task)
            task.add_done_callback(self._end)

    async def _rows(self) -> AsyncIterator[Asked]:
        """Yield the rows to be asked, until none is left and none is on its way."""
        while True:
            if waiting := self._again or self._window:
                yield waiting.popleft()
            elif not self._is_all_read:
                await self._read_window()
            elif self._running:
                self._ended.clear()
                await self._ended.wait()
            elif self._alike:
                # The last ones are copied once those that they are like are written down.
                await self.recorder.flush()
            else:
                return

    async def _read_window(self) -> None:
        rows = await asyncio.to_thread(self._batches.pending, self._batch, self._read_to, WINDOW)
        self._is_all_read = len(rows) < WINDOW
        self._read_to = rows[-1].number if rows else self._read_to
        first = self._alike.first_of_each(map(asked, rows))
        keys = [row.key for row in first if row.key is not None]
        # What an earlier run, or a window before, wrote down.
        known = await asyncio.to_thread(self._batches.answered, self._batch, keys) if keys else {}
        for row in first:
            if row.key is not None and row.key in known:
                self._copy(known[row.key].result, [row.number])
        self._window.extend(in_order(row for row in first if row.key not in known))

    async def _answer(self, row: Asked, began_at: float) -> None:
        try:
            status, body, request_id = await self._send(row.url, row.body, self._batch.caller)
        finally:
            self._gate.leave()
        if await self._is_to_be_repeated(row, status, body, began_at):
            self._again.append(row)
            return
        usage = usage_of(body)
        if not is_away(status, body):
            self._gate.answered(usage.input_tokens + usage.output_tokens)
        self._failures.pop(row.number, None)
        self.recorder.put(RowResult(row.number, status, json.dumps(body), request_id, usage=usage))

    async def _is_to_be_repeated(self, row: Asked, status: int, body: Json, began_at: float) -> bool:
        if is_away(status, body):
            reason = str(error_of(body).get("message"))
            # Of all that fail in an outage, the first one may have caused it.
            self._failures[row.number] += self._gate.failed(began_at, reason)
        elif status in BROKEN:
            self._failures[row.number] += 1
            await asyncio.sleep(BROKEN_DELAY_S * self._failures[row.number])
        else:
            return False
        return self._failures[row.number] < MAX_FAILURES

    def _note_recorded(self, results: Sequence[RowResult]) -> None:
        for result in results:
            self._copy(result, self._alike.pop(result.number))

    def _copy(self, result: RowResult, numbers: Sequence[int]) -> None:
        for number in numbers:
            # It used nothing.
            self.recorder.put(replace(result, number=number, usage=BatchUsage()))

    def _end(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._ended.set()
