"""How many rows run at once, as a function of what was seen: against engines that are simulated by arithmetic."""

import heapq
import itertools
import math
import random
from dataclasses import replace

import pytest

from rag_server.engines.engine_load import EngineLoad
from rag_server.jobs.batches.concurrency import FIRST_LIMIT, Concurrency, Observation, adjusted


def few(places: int) -> int:
    """Return how many more than its places an engine is given, so that none is ever empty."""
    return 2 + places // 16


class SimulatedEngine:
    """An engine of so many places, and rows that are searched for before they get there, on a clock of events."""

    def __init__(self, places: int, *, search_s: tuple[float, float], answer_s: tuple[float, float], burst_s: float) -> None:
        self.known = Concurrency.at_first(256)
        self.limits: list[int] = []
        self._places, self._search_s, self._answer_s, self._burst_s = places, search_s, answer_s, burst_s
        self._chooser = random.Random(0)
        self._events: list[tuple[float, int, str]] = []
        self._order = itertools.count()
        self._begun = self._waiting = self._running = 0

    def busy_share(self, *, since_s: float, until_s: float) -> float:
        """Return the share of the places that were taken in that time."""
        busy, last = 0.0, since_s
        self._later(0.0, "look")
        while self._events and self._events[0][0] < until_s:
            now, _, event = heapq.heappop(self._events)
            busy += self._running * max(0.0, now - last)
            last = max(last, now)
            self._happens(event, now)
        return busy / (self._places * (last - since_s))

    def _happens(self, event: str, now: float) -> None:
        if event == "look":
            load = EngineLoad(self._running, self._waiting)
            self.known = adjusted(self.known, Observation(load, self._begun, self._waiting + self._running))
            self.limits.append(self.known.limit)
            self._later(now + (0.25 if 2 * self.known.limit <= self.known.ceiling else 1.0), "look")
        elif event == "found":
            self._waiting += 1
        else:
            self._running, self._begun = self._running - 1, self._begun - 1
        while self._waiting and self._running < self._places:
            self._waiting, self._running = self._waiting - 1, self._running + 1
            self._later(now + self._chooser.uniform(*self._answer_s), "answered")
        while self._begun < self.known.limit:
            self._begun += 1
            # Those whose queries are embedded together arrive together.
            found_at = now + self._chooser.uniform(*self._search_s)
            self._later(math.ceil(found_at / self._burst_s) * self._burst_s, "found")

    def _later(self, at: float, event: str) -> None:
        heapq.heappush(self._events, (at, next(self._order), event))


@pytest.mark.parametrize("search_s", [(0.0, 0.01), (0.1, 0.4), (0.5, 1.5)], ids=["at once", "quick search", "slow search"])
@pytest.mark.parametrize("answer_s", [(0.6, 1.6), (3.0, 8.0)], ids=["short answers", "long answers"])
@pytest.mark.parametrize("burst_s", [0.001, 0.3], ids=["evenly", "in bursts"])
@pytest.mark.parametrize("places", [16, 64])
def test_the_engine_is_kept_full(
    places: int, burst_s: float, answer_s: tuple[float, float], search_s: tuple[float, float]
) -> None:
    """Whatever rows take before and in the engine, its places are taken, without a queue that grows."""
    engine = SimulatedEngine(places, search_s=search_s, answer_s=answer_s, burst_s=burst_s)

    assert engine.busy_share(since_s=20.0, until_s=140.0) > 0.95
    on_their_way = places * search_s[1] / answer_s[0]
    assert max(engine.limits[40:]) <= 1.4 * places + on_their_way + few(places)


def with_places(known: Concurrency, places: int, others: int = 0) -> Concurrency:
    """Let an engine of so many places be seen, all rows in it, beside requests of others."""
    there = known.limit + others
    load = EngineLoad(running=min(places, there), waiting=max(0, there - places))
    return adjusted(known, Observation(load, known.limit, there))


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
    assert max(seen) <= places + few(places)


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
    assert shared <= 16 + few(32)
    assert known.limit >= 32


def test_where_people_ask_no_row_waits_in_the_engine() -> None:
    """A queue that is fine for rows alone is cleared, since requests of people would stand behind it."""
    known = replace(Concurrency.at_first(256), limit=20, places=16)
    load = EngineLoad(running=16, waiting=3)

    assert adjusted(known, Observation(load, 20, 19)).limit == 20
    assert adjusted(known, Observation(load, 20, 19, shared=True)).limit == 18


def test_a_refusal_halves_it_and_growth_is_slow_afterwards() -> None:
    """Whatever the metrics say, a refusing engine gets half; then it is not doubled up to where it was refused."""
    known = replace(Concurrency.at_first(256), limit=64)

    refused = adjusted(known, Observation(EngineLoad(10, 0), 64, 10, refused=True))
    grown = with_places(refused, 1000)

    assert refused.limit == 32
    assert 32 < grown.limit <= 36


def test_an_engine_that_tells_late_is_filled_all_the_same() -> None:
    """Where its numbers lag by a step of seconds, what it was sent is known here: the limit doubles, not one by one."""
    known = Concurrency.at_first(256)
    for _ in range(3):
        known = adjusted(known, Observation(EngineLoad(running=1, waiting=0), known.limit, known.limit))

    assert known.limit == 8 * FIRST_LIMIT


def test_rows_that_are_elsewhere_do_not_double_it() -> None:
    """Where the engine is idle because the rows are still being searched for, more rows come one by one."""
    known = replace(Concurrency.at_first(256), limit=32)

    assert adjusted(known, Observation(EngineLoad(running=4, waiting=0), 32, 4)).limit == 36


def test_unused_places_are_no_reason_for_more() -> None:
    """Where no row waits for a place, nothing is learned from an engine without a queue."""
    known = Concurrency.at_first(256)

    assert adjusted(known, Observation(EngineLoad(3, 0), 3, 3, is_used=False)) == known


def test_a_process_that_is_late_does_less() -> None:
    """Where this process comes late to what it has to do it takes fewer rows, down to the first limit; a bit late, no more."""
    known = replace(Concurrency.at_first(256), limit=100)
    for _ in range(20):
        known = adjusted(known, Observation(EngineLoad(100, 0), 100, 100, late_s=0.1))

    assert known.limit == FIRST_LIMIT
    assert adjusted(known, Observation(EngineLoad(8, 0), 8, 8, late_s=0.015)).limit == FIRST_LIMIT


@pytest.mark.parametrize("places", [16, 64])
def test_without_metrics_it_climbs_while_that_gains_something(places: int) -> None:
    """An engine whose rate grows up to its places: the limit ends at twice that at most, and at no less than half."""
    known = Concurrency.at_first(256)
    seen = []
    for _ in range(60):
        known = adjusted(known, Observation(None, known.limit, known.limit, rate=float(min(known.limit, places))))
        seen.append(known.limit)

    assert seen[-1] >= places / 2
    assert sum(limit <= 2 * places for limit in seen[10:]) >= 0.9 * len(seen[10:])
