"""How many rows run at once, as a function of what was seen: against engines that are simulated by arithmetic."""

import math
from dataclasses import replace

import pytest

from rag_server.engines.engine_load import EngineLoad
from rag_server.jobs.batches.concurrency import FEW, FIRST_LIMIT, Concurrency, Observation, adjusted


def with_places(known: Concurrency, places: int, others: int = 0) -> Concurrency:
    """Let an engine of so many places be seen, all rows in it, beside requests of others."""
    there = known.limit + others
    load = EngineLoad(running=min(places, there), waiting=max(0, there - places))
    return adjusted(known, Observation(load))


@pytest.mark.parametrize("places", [1, 3, 8, 20, 100, 255])
def test_it_converges_to_the_places_of_the_engine(places: int) -> None:
    """After a while the engine is full and never more than a few wait; from there on it stays."""
    known = Concurrency.at_first(256)
    for _ in range(60):
        known = with_places(known, places)
    seen = [known.limit]
    for _ in range(200):
        known = with_places(known, places)
        seen.append(known.limit)

    assert min(seen) >= places
    assert max(seen) <= places + FEW


def test_it_doubles_at_first() -> None:
    """From 8 to the most that is allowed takes the logarithm of the ratio in steps, and it never goes beyond."""
    known, steps = Concurrency.at_first(200), 0
    while known.limit < 200:
        known, steps = with_places(known, 1000), steps + 1

    assert steps <= math.ceil(math.log2(200 / FIRST_LIMIT)) + 12
    assert with_places(known, 1000).limit == 200


def test_it_makes_room_for_others() -> None:
    """Requests of people that come to a full engine push rows out, and when they are gone their places are taken again."""
    known = Concurrency.at_first(256)
    for _ in range(60):
        known = with_places(known, 32)
    full = known.limit
    for _ in range(5):
        known = with_places(known, 32, others=16)
    shared = known.limit
    for _ in range(60):
        known = with_places(known, 32)

    assert full >= 32
    assert shared <= 16 + FEW
    assert known.limit >= 32


def test_a_refusal_halves_it_and_growth_is_slow_afterwards() -> None:
    """Whatever the metrics say, a refusing engine gets half; then it is not doubled up to where it was refused."""
    known = replace(Concurrency.at_first(256), limit=64)

    refused = adjusted(known, Observation(EngineLoad(10, 0), refused=True))
    grown = with_places(refused, 1000)

    assert refused.limit == 32
    assert 32 < grown.limit <= 36


def test_rows_that_are_elsewhere_do_not_double_it() -> None:
    """Where the engine is idle because the rows are still being searched for, more rows come one by one."""
    known = replace(Concurrency.at_first(256), limit=32)

    assert adjusted(known, Observation(EngineLoad(running=4, waiting=0))).limit == 34


def test_unused_places_are_no_reason_for_more() -> None:
    """Where no row waits for a place, nothing is learned from an engine without a queue."""
    known = Concurrency.at_first(256)

    assert adjusted(known, Observation(EngineLoad(3, 0), is_used=False)) == known


def test_a_process_that_is_late_does_less() -> None:
    """Where this process comes late to what it has to do it takes fewer rows, down to the first limit; a bit late, no more."""
    known = replace(Concurrency.at_first(256), limit=100)
    for _ in range(20):
        known = adjusted(known, Observation(EngineLoad(100, 0), late_s=0.1))

    assert known.limit == FIRST_LIMIT
    assert adjusted(known, Observation(EngineLoad(8, 0), late_s=0.015)).limit == FIRST_LIMIT


@pytest.mark.parametrize("places", [16, 64])
def test_without_metrics_it_climbs_while_that_gains_something(places: int) -> None:
    """An engine whose rate grows up to its places: the limit ends at twice that at most, and at no less than half."""
    known = Concurrency.at_first(256)
    seen = []
    for _ in range(60):
        known = adjusted(known, Observation(None, rate=float(min(known.limit, places))))
        seen.append(known.limit)

    assert seen[-1] >= places / 2
    assert sum(limit <= 2 * places for limit in seen[10:]) >= 0.9 * len(seen[10:])
