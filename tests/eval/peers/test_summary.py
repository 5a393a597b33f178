"""What is compared, and what must be so, on figures made up for it."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from eval.peers import tables
from eval.peers.comparison import CALLERS, Measured
from eval.peers.corpora import Corpus
from eval.peers.records import IndexRecord, LoadRecord, SearchRecord
from eval.peers.summary import LIMIT, OWN, Check, Summary, checks, summarise
from eval.peers.system import HTTP, HTTP_VECTORS, IN_PROCESS

CORPUS = Corpus("small", Path("chunks.jsonl"), 1000, {"q": "what"}, {"q": {"d1": 1}})
VERSIONS = {"torch": "2", "transformers": "5", "sentence-transformers": "6", "faiss-cpu": "1", "peer": "7"}


@dataclass(frozen=True)
class Named:
    """A system of which only the name matters."""

    name: str


def searched(rates: dict[int, float], found_s: float | None, ranked: str = "d1") -> SearchRecord:
    """Two seconds at these rates; the first new document takes ten times as long as the others."""
    loads = {
        callers: LoadRecord(latencies_ms=[1000 * callers / rate] * round(2 * rate), seconds=2.0, failures=[])
        for callers, rate in rates.items()
    }
    found = [None] if found_s is None else [10 * found_s, found_s, found_s]
    return SearchRecord(ranked={"q": ["d9", ranked]}, loads=loads, found_s=found, memory_mb=500.0)


def summary(
    name: str,
    *,
    chunks_per_s: float = 50,
    rates: dict[str, float] | None = None,
    found_s: float | None = 0.1,
    ranked: str = "d1",
) -> Summary:
    """Return a system that answers at these rates with 32 callers, at half of them with 8 and a tenth with one."""
    by_way = rates or {IN_PROCESS: 100.0}
    rounds = {way: [searched({1: rate / 10, 8: rate / 2, 32: rate}, found_s, ranked)] for way, rate in by_way.items()}
    indexed = IndexRecord(seconds=1000 / chunks_per_s, num_chunks=1000, peak_mb=900.0, start_s=5.0, versions=VERSIONS)
    return summarise(CORPUS, Measured(Named(name), [indexed], rounds))  # type: ignore[arg-type]


def made(*summaries: Summary) -> dict[str, bool]:
    return {check.what.partition(":")[0]: check.passed for check in checks(summaries)}


OURS = {HTTP: 200.0, HTTP_VECTORS: 900.0}


def test_rates_are_medians_and_latencies_of_all_rounds() -> None:
    """Of three rounds the middle rate counts; percentiles are over all searches; one slow new document is no median."""
    rounds = [searched(dict.fromkeys(CALLERS, rate), 0.1) for rate in (10.0, 50.0, 20.0)]
    indexed = [
        IndexRecord(seconds=seconds, num_chunks=1000, peak_mb=seconds, start_s=5.0, versions=VERSIONS)
        for seconds in (10.0, 100.0, 20.0)
    ]
    result = summarise(CORPUS, Measured(Named("x"), indexed, {HTTP: rounds}))  # type: ignore[arg-type]
    (way,) = result.searching

    assert result.chunks_per_s == 50.0
    assert result.index_mb == 100.0
    assert way.per_s[1] == 20.0
    # 20 searches of 100 ms, 100 of 20 ms, 40 of 50 ms.
    assert (way.p50_ms[1], way.p95_ms[1]) == pytest.approx((20.0, 100.0))
    assert (way.found_s, way.longest_found_s) == (0.1, 1.0)
    # The relevant document stands second of two: 1 / log2(3).
    assert way.ndcg == pytest.approx(0.6309, abs=1e-4)


def test_all_is_so() -> None:
    """Ahead of every peer, at the share of the limit that is asked for."""
    assert made(
        summary(OWN, chunks_per_s=60, rates=OURS, found_s=0.05),
        summary("peer", chunks_per_s=55),
        summary(LIMIT, chunks_per_s=66, rates={IN_PROCESS: 600.0}),
    ) == {
        "indexing, chunks per second": True,
        "searches per second, 8 callers": True,
        "searches per second, 32 callers": True,
        "seconds until a new document is found": True,
        "nDCG@10": True,
        "indexing": True,
        # 200 against 60 of one caller.
        "searches with 32 callers": True,
    }


@pytest.mark.parametrize(
    ("what", "peer"),
    [
        ("indexing, chunks per second", summary("peer", chunks_per_s=60)),
        ("searches per second, 32 callers", summary("peer", rates={IN_PROCESS: 200.0, HTTP: 10.0})),
        ("searches per second, 8 callers", summary("peer", rates={IN_PROCESS: 10.0, HTTP: 300.0})),
        ("seconds until a new document is found", summary("peer", found_s=0.05)),
    ],
)
def test_as_good_as_a_peer_is_not_ahead(what: str, peer: Summary) -> None:
    """A peer counts by its fastest way, and rag-server by its server as it comes, not by searching vectors alone."""
    own = summary(OWN, chunks_per_s=60, rates=OURS, found_s=0.05)

    assert made(own, summary("slow"), peer)[what] is False


def test_worse_ranking_is_told() -> None:
    """Speed at the cost of quality is no win."""
    assert made(summary(OWN, rates=OURS, ranked="d2"), summary("peer"))["nDCG@10"] is False


def test_document_that_is_never_found_is_no_win() -> None:
    """Nor does a peer that finds none set a mark."""
    assert made(summary(OWN, rates=OURS, found_s=None), summary("peer"))["seconds until a new document is found"] is False
    assert made(summary(OWN, rates=OURS), summary("peer", found_s=None))["seconds until a new document is found"] is True


@pytest.mark.parametrize(("chunks_per_s", "share"), [(54.0, True), (53.9, False)])
def test_limit_of_indexing(chunks_per_s: float, share: bool) -> None:
    """Nine tenths of 60."""
    own = summary(OWN, chunks_per_s=chunks_per_s, rates=OURS)
    assert made(own, summary(LIMIT, chunks_per_s=60))["indexing"] is share


@pytest.mark.parametrize(("rate", "times"), [(30.0, True), (29.5, False)])
def test_limit_of_searching_is_one_caller(rate: float, times: bool) -> None:
    """Three times the 10 of one caller, whatever the limit does with more of them."""
    own = summary(OWN, rates={HTTP: rate})
    assert made(own, summary(LIMIT, rates={IN_PROCESS: 100.0}))["searches with 32 callers"] is times


def test_without_rag_server_nothing_must_be_so() -> None:
    """Peers alone can be measured too."""
    assert checks([summary("peer"), summary(LIMIT)]) == []


def test_tables_show_figures_and_ratios() -> None:
    """More is better in every ratio: time and memory are the other's over ours."""
    own = summary(OWN, chunks_per_s=60, rates=OURS, found_s=0.05)
    peer = summary("peer", chunks_per_s=40, found_s=0.1)
    figures = tables.figures_table(CORPUS, [own, peer])
    ratios = tables.ratios_table(CORPUS, [own, peer])
    plot = tables.ratios_plot(CORPUS, [own, peer], "x.png")

    assert figures.rows[2][:6] == ("peer", "in process", "40.0", "10.0", "50.0", "100")
    assert ratios.rows == (("peer", "in process", "1.50", "2.00", "2.00", "2.00", "1.000", "2.00", "1.00"),)
    assert [series.y for series in plot.series] == [pytest.approx((ratio,)) for ratio in (1.5, 2.0, 2.0, 2.0)]
    assert tables.versions_table([peer]).rows == (("peer", "peer 7", "2", "5", "6", "1"),)
    assert tables.checks_table(CORPUS, [Check("w", "m", passed=False)]).rows == (("w", "m", "NO"),)


def test_way_of_which_every_search_failed_is_shown() -> None:
    """It has a rate of zero, and no time."""
    load = LoadRecord(latencies_ms=[], seconds=1.0, failures=["status 503"] * 4)
    rounds = {IN_PROCESS: [SearchRecord(ranked={}, loads=dict.fromkeys(CALLERS, load), found_s=[], memory_mb=1.0)]}
    indexed = IndexRecord(seconds=1.0, num_chunks=1000, peak_mb=1.0, start_s=1.0, versions=VERSIONS)
    failed = summarise(CORPUS, Measured(Named("peer"), [indexed], rounds))  # type: ignore[arg-type]
    (way,) = failed.searching

    assert (way.per_s[8], way.failed, way.failure, way.ndcg, way.found_s) == (0.0, 12, "status 503", None, None)
    assert tables.figures_table(CORPUS, [failed]).rows[0][3] == "0.0"
    assert tables.ratios_table(CORPUS, [summary(OWN, rates=OURS), failed]).rows[0][3] is None
