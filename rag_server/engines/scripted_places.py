"""The places of the scripted engine: as vLLM, it answers so many at once, and the rest waits in the order in which it came."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext


class Places:
    """So many places; 0 is as many as come."""

    def __init__(self, number: int) -> None:
        self._free = asyncio.Semaphore(number) if number else nullcontext()
        self.waiting = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place for as long as the context lasts."""
        self.waiting += 1
        is_waiting = True
        try:
            async with self._free:
                self.waiting -= 1
                is_waiting = False
                yield
        finally:
            self.waiting -= is_waiting
