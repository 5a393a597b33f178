"""Does together what is asked for at the same time: whatever waits while the worker works is its next portion."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

R = TypeVar("R")


class Coalescer(Generic[R]):
    """Hands texts to a function that takes several at once, in a thread; nobody waits for others to come."""

    def __init__(self, work: Callable[[Sequence[str]], Sequence[R]], *, most: int) -> None:
        """Take the function, which returns one result per text, and how many texts it is given at most."""
        self._work = work
        self._most = most
        self._waiting: dict[str, list[asyncio.Future[R]]] = {}
        self._working: asyncio.Task[None] | None = None

    async def result(self, text: str) -> R:
        """Return the result for a text; equal ones that wait together are worked on once.

        Raises:
            Exception: What the function raised for the portion.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(text, []).append(future)
        if self._working is None:
            self._working = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._do_portion({text: self._waiting.pop(text) for text in list(self._waiting)[: self._most]})
        finally:
            self._working = None

    async def _do_portion(self, portion: dict[str, list["asyncio.Future[R]"]]) -> None:
        # Who has gone away needs no result.
        texts = [text for text, futures in portion.items() if not all(future.done() for future in futures)]
        if not texts:
            return
        try:
            results = await asyncio.to_thread(self._work, texts)
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            for future in (future for text in texts for future in portion[text] if not future.done()):
                future.set_exception(error)
            return
        for text, result in zip(texts, results, strict=True):
            for future in (future for future in portion[text] if not future.done()):
                future.set_result(result)
