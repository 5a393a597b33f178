"""What is asked for at the same time is done together or once; each has their own result, and failures are theirs alone."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from rag_server.coalescing import Coalescer, SharedReads, all_of, one_by_one


class Work:
    """Doubles texts; holds until it is let go."""

    def __init__(self) -> None:
        self.portions: list[list[str]] = []
        self.go = threading.Event()

    def __call__(self, texts: Sequence[str]) -> list[str]:
        self.portions.append(list(texts))
        assert self.go.wait(30)
        if "bad" in texts:
            raise ValueError("bad")
        return [text * 2 for text in texts]


async def begun(work: Work, number: int) -> None:
    while len(work.portions) < number:
        await asyncio.sleep(0)


async def test_what_comes_while_it_works_is_the_next_portion() -> None:
    """The first goes alone and at once; those after it go together, equal ones once, in portions of the greatest size."""
    work = Work()
    coalescer = Coalescer(work, most=2)
    first = asyncio.ensure_future(coalescer.result("a"))
    await begun(work, 1)
    others = [asyncio.ensure_future(coalescer.result(text)) for text in ("b", "c", "b", "d")]
    await asyncio.sleep(0)
    work.go.set()

    assert await first == "aa"
    assert await asyncio.gather(*others) == ["bb", "cc", "bb", "dd"]
    assert work.portions == [["a"], ["b", "c"], ["d"]]


async def test_a_failure_is_that_of_its_portion() -> None:
    """Whoever was in the portion gets the error, and the next ones are worked on."""
    work = Work()
    work.go.set()
    coalescer = Coalescer(work, most=8)

    with pytest.raises(ValueError, match="bad"):
        await coalescer.result("bad")
    assert await coalescer.result("a") == "aa"


async def test_who_has_gone_away_is_not_worked_for() -> None:
    """A text of which every caller is cancelled while it waits is left out."""
    work = Work()
    coalescer = Coalescer(work, most=8)
    first = asyncio.ensure_future(coalescer.result("a"))
    await begun(work, 1)
    gone, other = asyncio.ensure_future(coalescer.result("b")), asyncio.ensure_future(coalescer.result("c"))
    await asyncio.sleep(0)
    gone.cancel()
    work.go.set()

    assert await asyncio.gather(first, other) == ["aa", "cc"]
    assert work.portions == [["a"], ["c"]]


async def test_several_portions_run_at_once() -> None:
    """Two may be worked on beside each other; the third waits for one of them."""
    both = threading.Barrier(2, timeout=30)
    running, most = 0, 0

    def work(texts: Sequence[str]) -> list[str]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        # Passed by pairs alone.
        both.wait()
        running -= 1
        return list(texts)

    coalescer = Coalescer(work, most=1, at_once=2)

    assert await asyncio.gather(*(coalescer.result(text) for text in "abcd")) == list("abcd")
    assert most == 2


async def test_one_that_fails_of_a_portion_fails_alone() -> None:
    """Of what waits together each has its own result or error."""

    def work(text: str) -> str:
        if text == "bad":
            raise ValueError("bad")
        return text * 2

    coalescer = one_by_one(work)
    good, bad, other = await asyncio.gather(*map(coalescer.result, ("a", "bad", "b")), return_exceptions=True)

    assert (good, str(bad), other) == ("aa", "bad", "bb")


class Shelf:
    """Reads a value at a moment and tells it when it is let go."""

    def __init__(self) -> None:
        self.value = 0
        self.begun: list[str] = []
        self.go = asyncio.Event()

    async def read(self, key: str) -> int:
        self.begun.append(key)
        value = self.value
        await self.go.wait()
        if key == "bad":
            raise ValueError("bad")
        return value

    async def reads(self, number: int) -> None:
        while len(self.begun) < number:
            await asyncio.sleep(0)


async def test_nobody_is_told_what_was_read_before_they_asked() -> None:
    """Those who come while it is read share the next read, which sees what was changed meanwhile."""
    shelf = Shelf()
    shared = SharedReads(shelf.read)
    first = [asyncio.ensure_future(shared.result("a")) for _ in range(3)]
    await shelf.reads(1)
    shelf.value = 1
    later = [asyncio.ensure_future(shared.result("a")) for _ in range(3)]
    await asyncio.sleep(0)
    shelf.go.set()

    assert await asyncio.gather(*first, *later) == [0, 0, 0, 1, 1, 1]
    assert shelf.begun == ["a", "a"]


async def test_different_things_are_read_beside_each_other() -> None:
    """A read that hangs holds up nobody who asks for something else; its failure is told to those who share it."""
    shelf = Shelf()
    shared = SharedReads(shelf.read)
    asked = [asyncio.ensure_future(shared.result(key)) for key in ("a", "bad", "bad", "b")]
    await shelf.reads(3)
    shelf.go.set()

    assert [repr(each) for each in await asyncio.gather(*asked, return_exceptions=True)] == [
        "0",
        "ValueError('bad')",
        "ValueError('bad')",
        "0",
    ]


async def test_who_goes_away_ends_no_read_of_others() -> None:
    """Of two who share a read the first is gone; the other is told, and whoever comes then has a read begun."""
    shelf = Shelf()
    shared = SharedReads(shelf.read)
    gone, stays = asyncio.ensure_future(shared.result("a")), asyncio.ensure_future(shared.result("a"))
    await shelf.reads(1)
    gone.cancel()
    shelf.go.set()

    assert await stays == 0
    assert await shared.result("a") == 0
    assert shelf.begun == ["a", "a"]


async def stubborn(ended: list[str], name: str) -> str:
    """Hears that it is cancelled, and takes a moment."""
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        for _ in range(20):
            await asyncio.sleep(0)
    ended.append(name)
    return name


async def test_nothing_runs_on_when_all_are_cancelled() -> None:
    """Who hears late that it is over has ended before whoever waits for all is told."""
    ended: list[str] = []
    waiting = asyncio.ensure_future(all_of([asyncio.sleep(60, "a"), stubborn(ended, "b")]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended == ["b"]


async def test_one_that_fails_ends_the_others() -> None:
    """The error is told once the others have ended."""
    ended: list[str] = []

    async def failing() -> str:
        await asyncio.sleep(0)
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        await all_of([failing(), stubborn(ended, "b")])
    assert ended == ["b"]
    assert await all_of([asyncio.sleep(0, "a"), asyncio.sleep(0, "b")]) == ["a", "b"]
