"""Batches of examples of about one length."""

import random

from rag_server.learning.length_groups import LengthGroups

CHOOSER = random.Random(4)
LENGTHS = [CHOOSER.randrange(100, 1000) for _ in range(410)]


def batches(order: list[int], size: int) -> list[list[int]]:
    return [order[begin : begin + size] for begin in range(0, len(order), size)]


def padding(order: list[int], size: int) -> int:
    padded = sum(max(LENGTHS[place] for place in batch) * len(batch) for batch in batches(order, size))
    return padded - sum(LENGTHS)


def test_each_place_comes_once_and_little_is_padded() -> None:
    """All places are there, and padding costs less than a third of what it costs in random order."""
    order = list(LengthGroups(LENGTHS, 4, seed=1))

    assert sorted(order) == list(range(410))
    assert padding(order, 4) < padding(random.Random(1).sample(range(410), 410), 4) / 3


def test_a_batch_that_is_not_full_comes_last() -> None:
    """410 is no multiple of 4: cut into fours from the front, every batch is still one of neighbours, in whatever round."""
    at_random = padding(random.Random(1).sample(range(410), 410), 4)
    for seed in range(20):
        assert padding(list(LengthGroups(LENGTHS, 4, seed=seed)), 4) < at_random / 3


def test_lengths_do_not_run_down_within_a_round() -> None:
    """The first half of a round is about as long as the second, unlike with a sorted order."""
    order = list(LengthGroups(LENGTHS, 4, seed=1))
    first, second = order[:205], order[205:]

    assert abs(sum(LENGTHS[place] for place in first) / sum(LENGTHS[place] for place in second) - 1) < 0.2


def test_a_round_is_drawn_again_and_another_differs() -> None:
    """The same seed and round give the same order, as a resumed run needs; another round gives another."""
    sampler, again = LengthGroups(LENGTHS, 4, seed=1), LengthGroups(LENGTHS, 4, seed=1)
    again.set_epoch(1)
    second = list(again)
    again.set_epoch(0)

    assert list(again) == list(sampler) == list(sampler)
    assert second != list(sampler)
