"""Does once, or together, what is asked for at the same time. Nobody waits for others to come.

Under load this saves more than the work: many threads that take turns with Python's lock wait for it more than they run.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Sequence
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")

# More at once are hardly done faster, and whoever comes next waits for all of them.
MOST_TOGETHER = 32


class Coalescer(Generic[K, R]):
    """Hands what was asked for to a function that takes several, in a thread; what waits meanwhile is its next portion."""

    def __init__(
        self, work: Callable[[Sequence[K]], Sequence[R | Exception]], *, most: int = MOST_TOGETHER, at_once: int = 1
    ) -> None:
        """Take the function, which returns a result or an error for each, and how many it is given at most.

        So many portions run at once, in threads of their own.
        """
        self._work = work
        self._most = most
        self._at_once = at_once
        self._waiting: dict[K, list[asyncio.Future[R]]] = {}
        self._num_working = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def result(self, asked: K) -> R:
        """Return the result for it; equal ones that wait together are worked on once.

        Raises:
            Exception: The error that the function returned for it, or raised for the portion.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(asked, []).append(future)
        if self._num_working < self._at_once:
            self._num_working += 1
            task = asyncio.create_task(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._do_portion({asked: self._waiting.pop(asked) for asked in list(self._waiting)[: self._most]})
        finally:
            self._num_working -= 1

    async def _do_portion(self, portion: dict[K, list["asyncio.Future[R]"]]) -> None:
        # Who has gone away needs no result.
        wanted = [asked for asked, futures in portion.items() if not all(future.done() for future in futures)]
        if not wanted:
            return
        try:
            results: Sequence[R | Exception] = await asyncio.to_thread(self._work, wanted)
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            results = [error] * len(wanted)
        for asked, result in zip(wanted, results, strict=True):
            for future in (future for future in portion[asked] if not future.done()):
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)


async def all_of(works: Iterable[Coroutine[Any, Any, R]]) -> list[R]:
    """Return what each brings, in order; all run at the same time, and none of them runs on when this ends.

    `asyncio.gather` leaves the others to themselves as soon as one fails or hears that all are cancelled.

    Raises:
        Exception: The first one that a work raised; the others are cancelled.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            # Whoever has heard of it is not disturbed at their end.
            if not task.cancelling():
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def one_by_one(work: Callable[[K], R]) -> Coalescer[K, R]:
    """Return what works on one after the other, which fail by themselves; on many cores on several portions at once."""

    def work_on_all(portion: Sequence[K]) -> list[R | Exception]:
        return [_result(work, asked) for asked in portion]

    return Coalescer(work_on_all, at_once=half_of_the_cores())


def half_of_the_cores() -> int:
    """Return how many portions of heavy work may run at once, so that there is room for what else the server does."""
    return max(1, (os.cpu_count() or 2) // 2)


def _result(work: Callable[[K], R], asked: K) -> R | Exception:
    try:
        return work(asked)
    except Exception as error:  # noqa: BLE001 - whoever waits for it gets it
        return error


class SharedReads(Generic[K, R]):
    """Reads a thing once for all who ask for it at the same time, different things beside each other.

    Nobody is told what was read before they asked: whoever comes while it is read is given the next read.
    """

    def __init__(self, read: Callable[[K], Awaitable[R]]) -> None:
        self._read = read
        self._waiting: dict[K, asyncio.Task[R]] = {}
        self._reading: dict[K, asyncio.Task[R]] = {}

    async def result(self, key: K) -> R:
        """Return what a read brings that has not begun yet.

        Raises:
            Exception: What the read raised; all who share it are told.
        """
        if key not in self._waiting:
            self._waiting[key] = asyncio.create_task(self._read_next(key, self._reading.get(key)))
        # Who goes away ends no read of others.
        return await asyncio.shield(self._waiting[key])

    async def _read_next(self, key: K, before: "asyncio.Task[R] | None") -> R:
        try:
            if before is not None:
                await asyncio.wait({before})
        finally:
            task = self._waiting.pop(key)
        self._reading[key] = task
        try:
            return await self._read(key)
        finally:
            if self._reading[key] is task:
                del self._reading[key]
