"""Bounded queues: so many requests of a kind run, so many wait in their order, and the rest is told at once."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from prometheus_client import Counter, Gauge, Histogram

from rag_server.api.work import Work
from rag_server.config import LimitsSettings
from rag_server.errors import OverloadedError
from rag_server.observability import BUCKETS_S

RUNNING = Gauge("rag_queue_running", "Requests that hold a place.", ["queue"])
WAITING = Gauge("rag_queue_waiting", "Requests that wait for a place.", ["queue"])
REFUSED = Counter("rag_queue_refused_total", "Requests that got no place.", ["queue", "reason"])
WAIT_SECONDS = Histogram("rag_queue_wait_seconds", "Time that requests waited for their place.", ["queue"], buckets=BUCKETS_S)

MAX_RETRY_AFTER_S = 60.0
# How much of what was known of the time that requests hold a place is kept with each new one.
MEMORY = 0.9


class WorkQueue:
    """The places for one kind of work. First come, first served."""

    def __init__(self, name: str, *, max_running: int, max_waiting: int, max_wait_s: float) -> None:
        self.name = name
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._held_s = 0.0

    def check_room(self) -> None:
        """Raise OverloadedError if all places are taken, those to wait at too."""
        if self._running >= self._max_running and len(self._waiting) >= self._max_waiting:
            REFUSED.labels(self.name, "full").inc()
            raise OverloadedError("too many requests are running and waiting here; try again", self._retry_after_s())

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place for as long as the context lasts.

        Raises:
            OverloadedError: None is left to wait for, or none became free in time.
        """
        self.check_room()
        came = time.perf_counter()
        if self._running < self._max_running:
            self._running += 1
        else:
            await self._wait()
        began = time.perf_counter()
        WAIT_SECONDS.labels(self.name).observe(began - came)
        RUNNING.labels(self.name).inc()
        try:
            yield
        finally:
            RUNNING.labels(self.name).dec()
            self._held_s = MEMORY * self._held_s + (1 - MEMORY) * (time.perf_counter() - began)
            self._hand_on()

    async def _wait(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        WAITING.labels(self.name).inc()
        try:
            async with asyncio.timeout(self._max_wait_s):
                await turn
        except TimeoutError:
            REFUSED.labels(self.name, "waited").inc()
            self._leave(turn)
            message = f"no place became free here within {self._max_wait_s:g} seconds; try again"
            raise OverloadedError(message, self._retry_after_s()) from None
        except asyncio.CancelledError:
            self._leave(turn)
            raise
        finally:
            WAITING.labels(self.name).dec()

    def _leave(self, turn: "asyncio.Future[None]") -> None:
        """Give up waiting; a place that was handed over at the last moment goes to the next one."""
        if turn.done() and not turn.cancelled():
            self._hand_on()
        elif turn in self._waiting:
            self._waiting.remove(turn)

    def _hand_on(self) -> None:
        """Give a place that became free to whoever waits longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            # One whose time was over in this very turn of the loop has not yet left.
            if not turn.done():
                turn.set_result(None)
                return
        self._running -= 1

    def _retry_after_s(self) -> float:
        """Return about how long it takes until those who wait have been served."""
        return min(MAX_RETRY_AFTER_S, (len(self._waiting) + 1) * self._held_s / self._max_running)


def build_queues(limits: LimitsSettings) -> Mapping[Work, WorkQueue]:
    """Return the queue of each kind of work."""
    numbers: dict[Work, tuple[int, int]] = {
        "generate": (limits.generate_running, limits.generate_waiting),
        "search": (limits.search_running, limits.search_waiting),
        "upload": (limits.upload_running, limits.upload_waiting),
    }
    return {
        work: WorkQueue(work, max_running=running, max_waiting=waiting, max_wait_s=limits.max_wait_s)
        for work, (running, waiting) in numbers.items()
    }
