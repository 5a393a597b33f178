"""Does what takes long for many things, so many at a time, and shows how far it is."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from rag_server.coalescing import all_of

T = TypeVar("T")
R = TypeVar("R")


async def done_for_each(things: Sequence[T], do: Callable[[T], Awaitable[R]], *, concurrency: int, description: str) -> list[R]:
    """Return what comes of each, in their order, with the progress on stderr; at most `concurrency` at a time.

    Raises:
        Exception: The first one that was raised for a thing; the others are ended.
    """
    slots = asyncio.Semaphore(concurrency)
    columns = (TextColumn(description), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(description, total=len(things))

        async def do_one(thing: T) -> R:
            async with slots:
                result = await do(thing)
            progress.advance(bar)
            return result

        return await all_of(map(do_one, things))
