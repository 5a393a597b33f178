"""How many requests of people wait for the beginning of their answer: work that nobody waits for stands back meanwhile."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Turn:
    """A request that waits; `over` may be called more than once."""

    def __init__(self, traffic: "LiveTraffic") -> None:
        self._traffic: LiveTraffic | None = traffic

    def over(self) -> None:
        """Its answer has begun, or there will be none."""
        if self._traffic is not None:
            self._traffic.left()
            self._traffic = None


class LiveTraffic:
    """Counts the requests of one event loop that wait."""

    def __init__(self) -> None:
        self._waiting = 0
        self._none_waits = asyncio.Event()
        self._none_waits.set()

    @property
    def is_waiting(self) -> bool:
        """Whether a request waits now."""
        return self._waiting > 0

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """Count a request until its turn is over, at the latest at the end of the block."""
        self._waiting += 1
        self._none_waits.clear()
        turn = Turn(self)
        try:
            yield turn
        finally:
            turn.over()

    def left(self) -> None:
        """Count one less."""
        self._waiting -= 1
        if self._waiting == 0:
            self._none_waits.set()

    async def passed(self, *, at_most_s: float) -> None:
        """Return once no request waits, or after that time: even endless traffic leaves something to the others."""
        if self._none_waits.is_set():
            return
        try:
            async with asyncio.timeout(at_most_s):
                await self._none_waits.wait()
        except TimeoutError:
            return
