"""What rows do while the engine is away, on a clock of the test's own."""

import asyncio

from rag_server.jobs.batches.outage import FIRST_DELAY_S, LONGEST_DELAY_S, Outage


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def passes(outage: Outage) -> bool:
    """Whether a row may go now."""
    task = asyncio.ensure_future(outage.passed())
    for _ in range(3):
        await asyncio.sleep(0)
    if not task.done():
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return not task.cancelled()


async def test_one_row_at_a_time_tries() -> None:
    """After a failure nothing goes; when its time has come one row goes, and the next only after the same time again."""
    clock = Clock()
    outage = Outage(clock)
    before = await passes(outage)
    is_news = outage.failed(clock.now)
    during = await passes(outage)
    clock.now += FIRST_DELAY_S
    tries = [await passes(outage), await passes(outage)]

    assert before
    assert is_news
    assert not during
    assert tries == [True, False]


async def test_rows_that_were_on_their_way_change_nothing() -> None:
    """Of a hundred rows that fail at once, the first is news and the others do not make the wait longer."""
    clock = Clock()
    outage = Outage(clock)
    news = [outage.failed(clock.now - 1) for _ in range(100)]
    clock.now += FIRST_DELAY_S

    assert sum(news) == 1
    assert await passes(outage)


async def test_tries_that_fail_wait_longer_up_to_a_limit() -> None:
    """Each try that fails doubles the wait, which is bounded."""
    clock = Clock()
    outage = Outage(clock)
    outage.failed(clock.now)
    waits = []
    for _ in range(8):
        began = clock.now
        while not await passes(outage):
            clock.now += 0.25
        waits.append(clock.now - began)
        outage.failed(clock.now)

    assert waits == sorted(waits)
    assert waits[0] == FIRST_DELAY_S
    assert waits[-1] == LONGEST_DELAY_S


async def test_an_answer_lets_all_go() -> None:
    """Whoever waits goes once one row was answered."""
    clock = Clock()
    outage = Outage(clock)
    outage.failed(clock.now)
    waiting = [asyncio.ensure_future(outage.passed()) for _ in range(5)]
    await asyncio.sleep(0)
    outage.answered()
    await asyncio.gather(*waiting)

    assert not outage.is_on
