"""Lines through measured points, and what lies beyond them."""

import math

import pytest

from eval.scaling.constants import PER_CENT
from eval.scaling.growth import fitted, index_growth, lexical_growth, proportional
from tests.eval.scaling.example import constants, index


def test_line_goes_through_points_that_lie_on_one() -> None:
    """Bytes of 1,000 and 100 per row are told apart, and extended to rows that were not measured."""
    line = fitted([10, 20, 40], [2000, 3000, 5000], proportional)

    assert (line.fixed, line.slope) == pytest.approx((1000, 100))
    assert line.at(1000) == pytest.approx(101_000)


def test_line_on_a_logarithm_grows_with_it() -> None:
    """What grows by one with each doubling has grown by ten after 1,024 times as many rows."""
    line = fitted([1024, 2048, 4096], [5.0, 6.0, 7.0], math.log2)

    assert line.at(1024 * 1024) == pytest.approx(15)


@pytest.mark.parametrize("ys", [[3.0, 2.0, 1.0], [2.0, 2.0, 2.0]])
def test_line_never_falls(ys: list[float]) -> None:
    """Points that fall by chance give their mean at every size: nothing gets cheaper by growing."""
    line = fitted([10, 20, 30], ys, proportional)

    assert line.at(10) == line.at(10**9) == pytest.approx(2)


def test_one_point_is_a_constant_and_nothing_is_below_zero() -> None:
    """A single measurement says nothing of growth, and a steep line does not go below zero at few rows."""
    assert fitted([10], [7.0], proportional).at(10**6) == 7
    assert fitted([10, 20], [1.0, 11.0], proportional).at(1) == 0


def test_recall_falls_with_the_logarithm_of_the_rows_and_takes_the_ranks_with_it() -> None:
    """Found .98 at 10,000 and .96 at 100,000, an index finds .92 at ten million, and each rank in proportion."""
    measured = constants().model_copy(
        update={
            "indexes": (
                index("hnsw", 10_000, bytes_per_row=1, ms=1, found=0.98),
                index("hnsw", 100_000, bytes_per_row=1, ms=1, found=0.96),
            )
        }
    )
    growth = index_growth(measured, "hnsw")

    assert growth.recall(10**7) == pytest.approx(0.92)
    assert growth.found(10**7) == pytest.approx((0.92,) * 10)
    assert growth.found(1000) == pytest.approx((0.96,) * 10)


def test_search_of_lists_grows_with_the_rows_and_of_a_graph_with_their_logarithm() -> None:
    """Ten times the rows: ten times the time of lists, but only log2(10) steps more of a graph."""
    growth = index_growth(constants(), "ivf_sq8")
    graph = index_growth(constants(), "hnsw")

    assert growth.mean_ms.at(2_000_000) == pytest.approx(20)
    assert graph.mean_ms.at(1_600_000) == pytest.approx(2 + 3)
    assert len(growth.shape) == PER_CENT


def test_bm25_grows_with_the_rows() -> None:
    """A tenth of a millisecond per 100,000 chunks is a second for a billion."""
    assert lexical_growth(constants().lexical).at(10**9) == pytest.approx(1000)
