"""The places of rows: first come first served, never more than the limit, and people go first."""

import asyncio
from dataclasses import replace

from rag_server.jobs.batches.gate import Gate
from rag_server.live_traffic import LiveTraffic


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def gate(limit: int, live: LiveTraffic | None = None) -> Gate:
    made = Gate(live or LiveTraffic(), 256)
    made.adjust(replace(made.known, limit=limit))
    return made


async def test_no_more_rows_than_places() -> None:
    """A row that finds no place waits for the first that becomes free, and a lower limit takes none away."""
    places = gate(2)
    await places.enter()
    await places.enter()
    third, fourth = (asyncio.ensure_future(places.enter()) for _ in range(2))
    await settled()
    places.adjust(replace(places.known, limit=1))
    places.leave()
    await settled()
    none_came = not third.done()
    places.leave()
    await settled()

    assert none_came
    assert third.done()
    assert not fourth.done()
    fourth.cancel()


async def test_who_goes_away_leaves_its_turn_to_the_next() -> None:
    """A row that is cancelled while it waits, even at the moment of its turn, keeps no place."""
    places = gate(1)
    await places.enter()
    first, second = (asyncio.ensure_future(places.enter()) for _ in range(2))
    await settled()
    places.leave()
    first.cancel()
    await settled()

    assert first.cancelled()
    assert second.done()
    assert places.running == 1


async def test_a_row_waits_while_a_request_waits_for_its_first_token() -> None:
    """No row begins while somebody waits, and all do once nobody does."""
    live = LiveTraffic()
    places = gate(4, live)
    with live.turn() as turn:
        rows = [asyncio.ensure_future(places.enter()) for _ in range(2)]
        await settled()
        held = [row.done() for row in rows]
        turn.over()
        await settled()
        gone_on = [row.done() for row in rows]

    assert held == [False, False]
    assert gone_on == [True, True]
    assert places.was_held


async def test_a_turn_that_is_over_twice_counts_once() -> None:
    """The end of an answer after its beginning does not let rows pass a second request."""
    live = LiveTraffic()
    with live.turn(), live.turn() as second:
        second.over()
        second.over()

        assert live.is_waiting
    assert not live.is_waiting
