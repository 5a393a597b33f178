"""The parts that every report on rankings has: what they took, their nDCG@10 with intervals, and what p means."""

from collections.abc import Mapping, Sequence

from eval.ranking.measures import NDCG_10, Measured
from eval.ranking.rankings import Rankings
from eval.report import Series, Table
from rag_server.types import RANKING_COUNTERS


def cost_table(columns: tuple[str, ...], rankings: Mapping[tuple[str, ...], Rankings]) -> Table:
    """Return what each ranking took, by cells that name it."""
    counters = tuple(name.replace("_", " ") for name in RANKING_COUNTERS)
    rows = tuple(
        (*name, *(getattr(made.report, counter) for counter in RANKING_COUNTERS), made.num_fallbacks)
        for name, made in rankings.items()
    )
    return Table("What the reranking took, summed over the queries", (*columns, *counters, "fallback"), rows)


def ndcg_series(label: str, x: Sequence[int], measured: Sequence[Measured]) -> Series:
    """Return nDCG@10 with its intervals, at the places `x`."""
    intervals = [of_run.interval(NDCG_10) for of_run in measured]
    return Series(
        label=label,
        x=tuple(map(float, x)),
        y=tuple(interval.mean for interval in intervals),
        low=tuple(interval.low for interval in intervals),
        high=tuple(interval.high for interval in intervals),
    )


def significance_note(baseline: str) -> str:
    """Return what the columns low, high and p are."""
    return (
        f"low and high bound the 95 % bootstrap interval of {NDCG_10} over the queries; p is of the paired randomisation test "
        f"of {NDCG_10} against {baseline}, not corrected for the number of comparisons."
    )
