"""Whether the engine is away: rows wait until it is back, and one of them at a time tries."""

import asyncio
import time
from collections.abc import Callable

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 5.0


class Outage:
    """Begins with a failure that may pass, and ends with the first answer."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_at: float | None = None
        self._next_try_at = 0.0
        self._delay_s = FIRST_DELAY_S
        self._over = asyncio.Event()
        self._over.set()

    @property
    def is_on(self) -> bool:
        """Whether the engine is away, as far as is known."""
        return self._began_at is not None

    def failed(self, asked_at: float) -> bool:
        """Note the failure of a row that was asked then; return whether that is news."""
        now = self._clock()
        if self._began_at is None:
            self._began_at, self._delay_s = now, FIRST_DELAY_S
            self._next_try_at = now + self._delay_s
            self._over.clear()
            return True
        # Those that were on their way when it began say nothing new.
        if asked_at > self._began_at:
            self._delay_s = min(2 * self._delay_s, LONGEST_DELAY_S)
            self._next_try_at = now + self._delay_s
        return False

    def answered(self) -> None:
        """Note an answer: the engine is there."""
        self._began_at = None
        self._over.set()

    async def passed(self) -> None:
        """Return at once where the engine is there, else once it is back or when it is this row's turn to try."""
        while self.is_on:
            left_s = self._next_try_at - self._clock()
            if left_s <= 0:
                self._next_try_at = self._clock() + self._delay_s
                return
            try:
                async with asyncio.timeout(left_s):
                    await self._over.wait()
            except TimeoutError:
                continue
