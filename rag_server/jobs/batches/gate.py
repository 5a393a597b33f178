"""Where rows wait before they begin: for the engine to be back, for a place, and for people, whose requests go first."""

import asyncio
import time
from collections import deque

import structlog

from rag_server.jobs.batches.concurrency import Concurrency
from rag_server.jobs.batches.outage import Outage
from rag_server.live_traffic import LiveTraffic

log = structlog.get_logger()

# Where people ask without an end, a row begins all the same after so long.
LONGEST_WAIT_S = 10.0


class Gate:
    """The places of all batches of this process; the batches take turns, since each has one row waiting at a time."""

    def __init__(self, live: LiveTraffic, most: int) -> None:
        self.known = Concurrency.at_first(most)
        self.outage = Outage()
        self.running = 0
        # Since they were last looked at: what was got done, in rows and tokens, and what was seen of the places.
        self.num_rows = 0
        self.work_done = 0
        self.was_full = False
        self.was_refused = False
        self.was_held = False
        self._live = live
        self._turns: deque[asyncio.Future[None]] = deque()

    @property
    def is_full(self) -> bool:
        """Whether a row waits for a place."""
        return any(not turn.done() for turn in self._turns)

    async def enter(self) -> float:
        """Return when a row may begin, which holds a place from then on; the time is that of `time.monotonic`."""
        await self.outage.passed()
        await self._place()
        self.was_held |= self._live.is_waiting
        try:
            await self._live.passed(at_most_s=LONGEST_WAIT_S)
        except BaseException:
            self.leave()
            raise
        return time.monotonic()

    def leave(self) -> None:
        """Give the place back."""
        self.running -= 1
        self._hand_on()

    def adjust(self, known: Concurrency) -> None:
        """Change the number of places; those that are taken stay so."""
        if known.limit != self.known.limit:
            log.debug("rows of batches at once", limit=known.limit)
        self.known = known
        self._hand_on()

    def answered(self, num_tokens: int) -> None:
        """Note a row that got its answer."""
        self.num_rows += 1
        # A row without any token is work too.
        self.work_done += 1 + num_tokens
        if self.outage.is_on:
            log.info("the engine answers the rows of batches again")
        self.outage.answered()

    def failed(self, began_at: float, reason: str) -> bool:
        """Note a row whose failure may pass; return whether the engine answered until then."""
        is_news = self.outage.failed(began_at)
        if is_news:
            self.was_refused = True
            log.warning("the engine does not answer the rows of batches now; they wait", reason=reason)
        return is_news

    async def _place(self) -> None:
        if self.running < self.known.limit and not self._turns:
            self.running += 1
            return
        self.was_full = True
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            # It may have been handed over at the last moment.
            if turn.done() and not turn.cancelled():
                self.leave()
            raise

    def _hand_on(self) -> None:
        while self._turns and self.running < self.known.limit:
            turn = self._turns.popleft()
            if not turn.done():
                self.running += 1
                turn.set_result(None)
