"""Places in a queue are handed on, whoever leaves at which moment."""

import asyncio
from contextlib import suppress

import pytest

from rag_server.api.queues import WorkQueue
from rag_server.errors import OverloadedError


def queue(**limits: float) -> WorkQueue:
    given = {"max_running": 1, "max_waiting": 10, "max_wait_s": 60, **limits}
    return WorkQueue(
        "test",
        max_running=int(given["max_running"]),
        max_waiting=int(given["max_waiting"]),
        max_wait_s=given["max_wait_s"],
    )


async def hold(places: WorkQueue, until: asyncio.Event, served: list[str], name: str) -> None:
    async with places.place():
        served.append(name)
        await until.wait()


async def test_place_of_one_that_leaves_in_the_same_moment_goes_to_the_next() -> None:
    """Who is cancelled just before, or just after, a place became free, takes it from nobody and breaks nothing."""
    for leaves_first in (True, False):
        places, end, served = queue(), asyncio.Event(), list[str]()
        first = asyncio.create_task(hold(places, end, served, "first"))
        await asyncio.sleep(0)
        leaving = asyncio.create_task(hold(places, end, served, "leaving"))
        last = asyncio.create_task(hold(places, end, served, "last"))
        await asyncio.sleep(0)
        for task in (leaving, first) if leaves_first else (first, leaving):
            task.cancel()
        for task in (leaving, first):
            with suppress(asyncio.CancelledError):
                await task
        end.set()
        await asyncio.wait_for(last, 5)
        await asyncio.wait_for(hold(places, end, served, "another"), 5)

        assert served == ["first", "last", "another"]


async def test_place_that_comes_too_late_is_handed_on() -> None:
    """Whose time is over in the turn of the loop in which a place becomes free is refused, and the place is not lost."""
    places, end, served = queue(max_wait_s=0.01), asyncio.Event(), list[str]()
    for _ in range(20):
        first = asyncio.create_task(hold(places, end, served, "first"))
        await asyncio.sleep(0)
        late = asyncio.create_task(hold(places, end, served, "late"))
        await asyncio.sleep(0.01)
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first
        end.set()
        with suppress(OverloadedError):
            await late
        await asyncio.wait_for(hold(places, end, served, "next"), 5)
        end.clear()


async def test_more_than_may_wait_are_refused() -> None:
    """One runs, one waits; the third is told to come again."""
    places, end, served = queue(max_waiting=1), asyncio.Event(), list[str]()
    tasks = [asyncio.create_task(hold(places, end, served, name)) for name in ("runs", "waits")]
    await asyncio.sleep(0)

    with pytest.raises(OverloadedError):
        await hold(places, end, served, "third")
    end.set()
    await asyncio.gather(*tasks)
    assert served == ["runs", "waits"]
