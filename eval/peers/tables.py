"""The tables and plots of the comparison."""

from collections.abc import Sequence

from eval.peers.adapters.commands import SHARED
from eval.peers.comparison import CALLERS
from eval.peers.corpora import Corpus
from eval.peers.summary import OWN, Check, Searching, Summary
from eval.report import Cell, Plot, Series, Table


def figures_table(corpus: Corpus, summaries: Sequence[Summary]) -> Table:
    """Return every figure of one corpus, a line for each way to search."""
    rows = [_figures(summary, way) for summary in summaries for way in summary.searching]
    columns = (
        "system", "searched", "indexing, chunks/s", *(f"searches/s, {callers}" for callers in CALLERS),
        *(f"p50 / p95 ms, {callers}" for callers in CALLERS), "nDCG@10", "memory, indexing", "memory, searching",
        "new document found after", "longest",
    )  # fmt: skip
    return Table(f"{corpus.name}, {corpus.num_chunks:,} chunks: figures", columns, tuple(rows))


def ratios_table(corpus: Corpus, summaries: Sequence[Summary]) -> Table:
    """Return how many times better rag-server's server does than each way of each other system."""
    own = next(summary for summary in summaries if summary.name == OWN)
    rows = [_ratios(own, other, way) for other in summaries if other.name != OWN for way in other.searching]
    columns = (
        "rag-server over HTTP, as it comes, against", "searched", "indexing rate",
        *(f"search rate, {callers}" for callers in CALLERS), "nDCG@10", "new document found",
        "memory, searching",
    )  # fmt: skip
    return Table(f"{corpus.name}, {corpus.num_chunks:,} chunks: how many times better", columns, tuple(rows))


def checks_table(corpus: Corpus, checks: Sequence[Check]) -> Table:
    """Return what must be so, and whether it is."""
    rows = tuple((check.what, check.measured, "yes" if check.passed else "NO") for check in checks)
    return Table(f"{corpus.name}, {corpus.num_chunks:,} chunks: must be so", ("what", "measured", "passed"), rows)


def versions_table(summaries: Sequence[Summary]) -> Table:
    """Return what did the work: what is the system's own, and what each has below it."""
    rows = []
    for summary in summaries:
        own = [f"{name} {version}" for name, version in summary.versions.items() if name not in SHARED]
        rows.append((summary.name, ", ".join(own) or None, *(summary.versions[name] for name in SHARED)))
    return Table("Versions", ("system", "its own", *SHARED), tuple(rows))


def ratios_plot(corpus: Corpus, summaries: Sequence[Summary], filename: str) -> Plot:
    """Return bars of how many times more rag-server's server does than the fastest way of each other system."""
    own = next(summary for summary in summaries if summary.name == OWN)
    others = [summary for summary in summaries if summary.name != OWN]
    places = tuple(float(place) for place in range(len(others)))
    series = [Series("indexing", places, tuple(own.chunks_per_s / other.chunks_per_s for other in others))]
    for callers in CALLERS:
        ratios = tuple(_ratio(own.own_way.per_s[callers], other.best_per_s(callers)) or 0.0 for other in others)
        series.append(Series(f"search, {callers} caller{'s' if callers > 1 else ''}", places, ratios))
    title = f"rag-server over HTTP against others' fastest way ({corpus.num_chunks:,} chunks)"
    categories = tuple(other.name for other in others)
    return Plot(filename, title, "", "times their rate (1: as fast)", tuple(series), categories=categories)


def _figures(summary: Summary, way: Searching) -> tuple[Cell, ...]:
    return (
        summary.name,
        way.way,
        _rate(summary.chunks_per_s),
        *(_rate(way.per_s[callers]) for callers in CALLERS),
        *(f"{way.p50_ms[callers]:.0f} / {way.p95_ms[callers]:.0f}" for callers in CALLERS),
        None if way.ndcg is None else f"{way.ndcg:.3f}",
        f"{summary.index_mb:,.0f} MB",
        f"{way.memory_mb:,.0f} MB",
        _seconds(way.found_s),
        _seconds(way.longest_found_s),
    )


def _ratios(own: Summary, other: Summary, way: Searching) -> tuple[Cell, ...]:
    ours = own.own_way
    return (
        other.name,
        way.way,
        _times(own.chunks_per_s, other.chunks_per_s),
        *(_times(ours.per_s[callers], way.per_s[callers]) for callers in CALLERS),
        _times(ours.ndcg, way.ndcg, digits=3),
        _times(way.found_s, ours.found_s),
        _times(way.memory_mb, ours.memory_mb),
    )


def _ratio(one: float | None, other: float | None) -> float | None:
    return None if one is None or not other else one / other


def _times(one: float | None, other: float | None, *, digits: int = 2) -> str | None:
    ratio = _ratio(one, other)
    return None if ratio is None else f"{ratio:.{digits}f}"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f} s"
