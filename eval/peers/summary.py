"""Sums up what was measured: one figure for each thing that systems are compared by, and the limits that it must keep."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.bench.tools import percentile
from eval.peers.comparison import CALLERS, Measured
from eval.peers.corpora import Corpus
from eval.peers.records import LoadRecord
from eval.peers.system import HTTP
from eval.ranking.measures import NDCG_10, measure
from eval.ranking.rankings import scores_by_rank

OWN, LIMIT = "rag-server", "bare sentence-transformers + FAISS"
LIMIT_SHARE, LIMIT_TIMES = 0.9, 3.0
# nDCG@10 is compared at the three digits that papers give.
NDCG_DIGITS = 3


@dataclass(frozen=True, slots=True)
class Searching:
    """One way to search, over all rounds: for each number of callers the median rate, and percentiles of all searches."""

    way: str
    per_s: dict[int, float]
    p50_ms: dict[int, float]
    p95_ms: dict[int, float]
    failed: int
    failure: str | None
    ndcg: float | None
    memory_mb: float
    # The median until a new document is found, and the longest: the first after a start.
    found_s: float | None
    longest_found_s: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """One system on one corpus; the medians of its rounds."""

    name: str
    versions: Mapping[str, str]
    chunks_per_s: float
    index_mb: float
    start_s: float
    searching: tuple[Searching, ...]

    def best_per_s(self, callers: int) -> float:
        """Return the rate of its fastest way."""
        return max(way.per_s[callers] for way in self.searching)

    @property
    def found_s(self) -> float | None:
        """The shortest time of its ways until a new document is found."""
        return min((way.found_s for way in self.searching if way.found_s is not None), default=None)

    @property
    def ndcg(self) -> float | None:
        """The best of its ways."""
        return max((way.ndcg for way in self.searching if way.ndcg is not None), default=None)

    @property
    def own_way(self) -> Searching:
        """What is compared of rag-server: its server as it comes."""
        return next(way for way in self.searching if way.way == HTTP)


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must be so, and whether it is."""

    what: str
    measured: str
    passed: bool


def summarise(corpus: Corpus, measured: Measured) -> Summary:
    """Return the figures of one system."""
    return Summary(
        name=measured.system.name,
        versions=measured.indexed[-1].versions,
        chunks_per_s=statistics.median(record.rate for record in measured.indexed),
        index_mb=max(record.peak_mb for record in measured.indexed),
        start_s=statistics.median(record.start_s for record in measured.indexed),
        searching=tuple(_searching(corpus, measured, way) for way in measured.searched),
    )


def checks(summaries: Sequence[Summary]) -> list[Check]:
    """Return what rag-server must do better than every peer, and how it must stand beside the bare limit.

    A peer counts by its fastest way, in process or over HTTP; rag-server by its server as it comes.
    """
    own = next((summary for summary in summaries if summary.name == OWN), None)
    if own is None:
        return []
    peers = [summary for summary in summaries if summary.name not in {OWN, LIMIT}]
    made = _ahead_of(own, peers) if peers else []
    limit = next((summary for summary in summaries if summary.name == LIMIT), None)
    return made if limit is None else [*made, *_beside_limit(own, limit)]


def _searching(corpus: Corpus, measured: Measured, way: str) -> Searching:
    rounds = measured.searched[way]
    by_callers = {callers: [record.loads[callers] for record in rounds] for callers in CALLERS}
    latencies = {callers: _latencies(loads) for callers, loads in by_callers.items()}
    failures = [reason for loads in by_callers.values() for load in loads for reason in load.failures]
    found = [seconds for record in rounds for seconds in record.found_s if seconds is not None]
    run = {query_id: scores_by_rank(ids) for query_id, ids in rounds[0].ranked.items()}
    return Searching(
        way=way,
        per_s={callers: statistics.median(load.rate for load in loads) for callers, loads in by_callers.items()},
        p50_ms={callers: percentile(values, 50) for callers, values in latencies.items()},
        p95_ms={callers: percentile(values, 95) for callers, values in latencies.items()},
        failed=len(failures),
        failure=failures[0] if failures else None,
        ndcg=None if not run else measure(corpus.qrels, run).mean(NDCG_10),
        memory_mb=statistics.median(record.memory_mb for record in rounds),
        found_s=statistics.median(found) if found else None,
        longest_found_s=max(found, default=None),
    )


def _latencies(loads: Sequence[LoadRecord]) -> list[float]:
    # A way of which every search failed has no percentile.
    return [latency for load in loads for latency in load.latencies_ms] or [float("nan")]


def _ahead_of(own: Summary, peers: Sequence[Summary]) -> list[Check]:
    made = [_ahead("indexing, chunks per second", own.chunks_per_s, {peer.name: peer.chunks_per_s for peer in peers})]
    for callers in CALLERS[1:]:
        rates = {peer.name: peer.best_per_s(callers) for peer in peers}
        made.append(_ahead(f"searches per second, {callers} callers", own.own_way.per_s[callers], rates))
    return [*made, _sooner(own, peers), *_as_good(own, peers)]


def _ahead(what: str, own: float, of_peers: Mapping[str, float]) -> Check:
    best = max(of_peers, key=of_peers.__getitem__)
    measured = f"{own:.1f}; best peer {of_peers[best]:.1f} ({best})"
    return Check(f"{what}: ahead of every peer", measured, own > of_peers[best])


def _sooner(own: Summary, peers: Sequence[Summary]) -> Check:
    found = [(peer.found_s, peer.name) for peer in peers if peer.found_s is not None]
    best_s, best = min(found, default=(float("inf"), "none"))
    seconds = own.own_way.found_s
    measured = f"{'never' if seconds is None else f'{seconds:.3f}'}; best peer {best_s:.3f} ({best})"
    passed = seconds is not None and seconds < best_s
    return Check("seconds until a new document is found: ahead of every peer", measured, passed)


def _as_good(own: Summary, peers: Sequence[Summary]) -> list[Check]:
    values = [(peer.ndcg, peer.name) for peer in peers if peer.ndcg is not None]
    ndcg = own.own_way.ndcg
    if not values or ndcg is None:
        return []
    best = max(values)
    passed = round(ndcg, NDCG_DIGITS) >= round(best[0], NDCG_DIGITS)
    return [Check(f"{NDCG_10}: equal or better than every peer", f"{ndcg:.3f}; best peer {best[0]:.3f} ({best[1]})", passed)]


def _beside_limit(own: Summary, limit: Summary) -> list[Check]:
    share = own.chunks_per_s / limit.chunks_per_s
    # The limit embeds one query at a time, however many callers wait.
    times = own.own_way.per_s[CALLERS[-1]] / limit.best_per_s(1)
    return [
        Check(f"indexing: at least {LIMIT_SHARE:g} of the bare limit", f"{share:.2f}", share >= LIMIT_SHARE),
        Check(
            f"searches with {CALLERS[-1]} callers: at least {LIMIT_TIMES:g} times the bare limit, one at a time",
            f"{times:.2f}",
            times >= LIMIT_TIMES,
        ),
    ]
