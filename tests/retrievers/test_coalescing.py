"""Texts that wait together are worked on together, each caller gets its own result, and failures are theirs alone."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from retrievers.coalescing import Coalescer


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
