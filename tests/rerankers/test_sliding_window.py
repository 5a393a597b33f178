"""The windows of the sliding window."""

import itertools
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_server.types import Passage, RankingReport
from rerankers.listwise_model import Order
from rerankers.sliding_window import SlidingWindowReranker, windows


def test_hundred_candidates_take_nine_windows() -> None:
    """The paper's numbers: window 20, step 10, back to front."""
    assert list(windows(100, 20, 10)) == [(start, start + 20) for start in range(80, -1, -10)]


@given(st.integers(0, 300), st.integers(2, 40), st.data())
def test_windows_cover_everything_and_overlap(num: int, window: int, data: st.DataObject) -> None:
    """Every candidate is in a window, the last one holds the first candidates, and each shares some with the one before."""
    step = data.draw(st.integers(1, window - 1))
    found = list(windows(num, window, step))

    assert {position for start, end in found for position in range(start, end)} == set(range(num))
    assert found[-1][0] == 0
    assert all(end - start == min(window, num) for start, end in found)
    assert all(later[1] > earlier[0] for earlier, later in itertools.pairwise(found))


class PerfectModel:
    """In the place of a listwise model: orders what it reads by the number in the text."""

    async def rank(self, query: str, passages: Sequence[Passage]) -> Order:
        del query
        positions = tuple(sorted(range(len(passages)), key=lambda index: int(passages[index].text)))
        return Order(positions, RankingReport(calls=1, well_formed=1))


@pytest.mark.parametrize("passes", [1, 9])
async def test_each_pass_brings_the_best_ten_to_the_top(passages: Callable[..., list[Passage]], passes: int) -> None:
    """A pass of window 20 and step 10 orders the ten best right; nine passes order all hundred."""
    numbers = random.Random(1).sample(range(100), 100)
    reranker = SlidingWindowReranker(PerfectModel(), passes=passes)

    ranking = await reranker.rerank("q", passages([str(number) for number in numbers]))

    ordered = [int(passage.text) for passage in ranking.passages]
    assert ordered[: 10 * passes] == list(range(100))[: 10 * passes]
    assert sorted(ordered) == list(range(100))
    assert ranking.report.calls == 9 * passes
