"""Writes results down in groups, each in one transaction: only then do they count."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from rag_server.batch_types import Batch, RowResult
from rag_server.errors import StoreError
from rag_server.store.batches import Batches

log = structlog.get_logger()

# A group is what comes in this time, or so many.
GROUP_S = 0.02
MAX_GROUP = 64
# While so many wait to be written down, no row begins.
MAX_WAITING = 256
# A store that cannot be written is tried again after this time.
RETRY_S = 1.0


class Recorder:
    """Takes the results of one batch; `recorded` is told of each group that has been written down."""

    def __init__(self, batches: Batches, batch: Batch, recorded: Callable[[Sequence[RowResult]], None]) -> None:
        self._batches = batches
        self._batch = batch
        self._recorded = recorded
        self._waiting: deque[RowResult] = deque()
        self._came = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._writing = asyncio.Lock()

    def put(self, result: RowResult) -> None:
        """Take a result."""
        self._waiting.append(result)
        self._came.set()
        if len(self._waiting) >= MAX_WAITING:
            self._has_room.clear()

    async def room(self) -> None:
        """Return once not too many results wait; while the store cannot be written, that is never."""
        await self._has_room.wait()

    async def run(self) -> None:
        """Write down what comes, for ever.

        Raises:
            LeaseLostError: Another process has the batch.
        """
        while True:
            await self._came.wait()
            if len(self._waiting) < MAX_GROUP:
                await asyncio.sleep(GROUP_S)
            await self.flush()

    async def flush(self) -> None:
        """Write down all that has come.

        Raises:
            LeaseLostError: Another process has the batch.
        """
        async with self._writing:
            self._came.clear()
            while self._waiting:
                group = [self._waiting[place] for place in range(min(MAX_GROUP, len(self._waiting)))]
                await self._write(group)
                for _ in group:
                    self._waiting.popleft()
                if len(self._waiting) < MAX_WAITING:
                    self._has_room.set()
                self._recorded(group)

    async def _write(self, group: Sequence[RowResult]) -> None:
        is_failing = False
        while True:
            try:
                await asyncio.to_thread(self._batches.record, self._batch, group)
            except StoreError as error:
                if not is_failing:
                    log.error("results of a batch cannot be written down; it waits", batch=self._batch.id, reason=str(error))
                is_failing = True
                # Nothing more begins before this is written.
                self._has_room.clear()
                await asyncio.sleep(RETRY_S)
            else:
                if is_failing:
                    log.info("results of a batch are written down again", batch=self._batch.id)
                return
