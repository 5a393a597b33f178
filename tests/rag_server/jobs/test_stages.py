"""Stages side by side: order, bounds, errors and ends."""

import threading
from collections.abc import Iterator

import pytest

from rag_server.jobs.stages import ahead, behind

LIMIT = 10
WAIT_S = 30.0


def counted(number: int, *, made: list[int] | None = None, error: Exception | None = None) -> Iterator[int]:
    for item in range(number):
        if made is not None:
            made.append(item)
        yield item
    if error is not None:
        raise error


def size(_: int) -> int:
    return 1


def test_ahead_yields_everything_in_order() -> None:
    """Whatever is ready is taken together, none is lost, none comes twice."""
    portions = list(ahead(counted(1000), limit=LIMIT, size_of=size))

    assert [item for portion in portions for item in portion] == list(range(1000))
    assert max(map(len, portions)) <= LIMIT


def test_ahead_makes_no_more_than_the_limit() -> None:
    """What nobody takes is not made: the limit, and the item that is being made."""
    made: list[int] = []
    is_waiting = threading.Event()

    def noting() -> Iterator[int]:
        for item in counted(1000, made=made):
            if item == LIMIT:
                is_waiting.set()
            yield item

    portions = ahead(noting(), limit=LIMIT, size_of=size)
    first = next(portions)
    assert is_waiting.wait(WAIT_S)
    portions.close()

    assert first[0] == 0
    assert len(made) <= len(first) + LIMIT + 1


def test_ahead_counts_sizes_and_takes_one_that_is_larger_than_the_limit() -> None:
    """A single large item passes; a second one waits until it is gone."""
    portions = list(ahead(counted(3), limit=LIMIT, size_of=lambda _: 3 * LIMIT))

    assert portions == [[0], [1], [2]]


def test_an_error_comes_after_what_was_made_before_it() -> None:
    """It is raised where the items are taken."""
    taken: list[int] = []

    with pytest.raises(ValueError, match="broken"):
        for portion in ahead(counted(3, error=ValueError("broken")), limit=LIMIT, size_of=size):
            taken += portion
    assert taken == [0, 1, 2]


def test_closing_ends_what_makes_the_items() -> None:
    """Its thread has ended and it is closed, so that what it holds is free."""
    is_closed = threading.Event()

    def holding() -> Iterator[int]:
        try:
            yield from counted(1000)
        finally:
            is_closed.set()

    portions = ahead(holding(), limit=LIMIT, size_of=size)
    next(portions)
    before = threading.active_count()
    portions.close()

    assert is_closed.is_set()
    assert threading.active_count() == before - 1


def test_behind_does_everything_in_order_in_another_thread() -> None:
    """All of it is done when the context ends."""
    done: list[int] = []
    threads = set()

    def act(items: list[int]) -> None:
        threads.add(threading.current_thread())
        done.extend(items)

    with behind(act, limit=LIMIT, size_of=size) as hand_over:
        for item in range(1000):
            hand_over(item)

    assert done == list(range(1000))
    assert threading.current_thread() not in threads


def test_behind_takes_together_what_waits() -> None:
    """While one portion is worked on, the next ones gather, up to the limit."""
    portions: list[list[int]] = []
    may_go_on = threading.Event()

    def act(items: list[int]) -> None:
        portions.append(items)
        assert may_go_on.wait(WAIT_S)

    with behind(act, limit=LIMIT, size_of=size) as hand_over:
        hand_over(0)
        while not portions:
            threading.Event().wait(0.001)
        for item in range(1, LIMIT + 1):
            hand_over(item)
        may_go_on.set()

    assert portions == [[0], list(range(1, LIMIT + 1))]


def test_an_error_behind_is_raised_by_a_later_hand_over() -> None:
    """Whoever hands over learns of it, instead of waiting for ever."""

    def act(_: list[int]) -> None:
        raise ValueError("disk full")

    def hand_over_for_ever() -> None:
        with behind(act, limit=LIMIT, size_of=size) as hand_over:
            while True:
                hand_over(0)

    with pytest.raises(ValueError, match="disk full"):
        hand_over_for_ever()


def test_an_error_over_the_last_item_is_raised_at_the_end() -> None:
    """Nothing that failed passes for done."""

    def act(_: list[int]) -> None:
        raise ValueError("disk full")

    with pytest.raises(ValueError, match="disk full"), behind(act, limit=LIMIT, size_of=size) as hand_over:
        hand_over(0)


def test_what_was_handed_over_is_done_though_the_rest_breaks_off() -> None:
    """The error of whoever hands over is the one that is raised."""
    done: list[int] = []

    def break_off() -> None:
        with behind(done.extend, limit=LIMIT, size_of=size) as hand_over:
            hand_over(0)
            raise KeyError("model")

    with pytest.raises(KeyError, match="model"):
        break_off()
    assert done == [0]
