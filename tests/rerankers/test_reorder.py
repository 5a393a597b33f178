"""Places in the prompt."""

import pytest

from rag_server.types import Passage, Ranking
from rerankers.first_stage import FirstStageOrder
from rerankers.reorder import reorder


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, []),
        (1, [1]),
        (2, [1, 2]),
        (3, [1, 3, 2]),
        (4, [1, 3, 4, 2]),
        (5, [1, 3, 5, 4, 2]),
        (10, [1, 3, 5, 7, 9, 10, 8, 6, 4, 2]),
    ],
)
def test_sides_puts_the_best_first_and_the_second_best_last(count: int, expected: list[int]) -> None:
    """Position (i + 1) / 2 for odd ranks i, (k + 1) - i / 2 for even ones, for every length."""
    ranked = list(range(1, count + 1))
    by_formula = [0] * count
    for rank in ranked:
        position = (rank + 1) // 2 if rank % 2 else (count + 1) - rank // 2
        by_formula[position - 1] = rank

    assert reorder(ranked, "sides") == by_formula == expected
    assert reorder(ranked, "none") == ranked
    assert reorder(ranked, "reverse") == list(reversed(ranked))


async def test_first_stage_order_keeps_every_passage() -> None:
    """Without a reranker the candidates stay as they were found."""
    passages = [Passage(n, "d", "f", "a.md", "T", "x", 0, 1, 1.0, n) for n in (3, 1, 2)]

    assert await FirstStageOrder().rerank("q", passages) == Ranking(tuple(passages))
