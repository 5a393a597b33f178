"""What a retriever or reranker made of every query: the rankings, what they took, and which failed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rag_server.types import RankingReport

# Query id -> document id -> score, best first.
Run = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Rankings:
    """A run and how it went.

    `report` is summed over the queries, `num_fallbacks` counts those with the first stage's order instead, and `failed` says
    why a query ranks nothing.
    """

    run: Run
    report: RankingReport = field(default_factory=RankingReport)
    num_fallbacks: int = 0
    failed: Mapping[str, str] = field(default_factory=dict)

    def faults(self, name: str) -> list[str]:
        """Return a sentence for each failed query and one for the fallbacks, under the ranking's name."""
        lines = [f"{name}: query {query_id} failed and counts as zero: {reason}" for query_id, reason in self.failed.items()]
        if self.num_fallbacks:
            why = f"the first reason: {self.report.fallback}"
            lines.append(f"{name}: for {self.num_fallbacks} queries the first stage's order was used instead; {why}")
        return lines


class RankingCollector:
    """Takes the outcome of one query after the other."""

    def __init__(self) -> None:
        self._run: dict[str, dict[str, float]] = {}
        self._failed: dict[str, str] = {}
        self._report = RankingReport()
        self._num_fallbacks = 0

    def add(self, query_id: str, document_ids: Iterable[str], report: RankingReport) -> None:
        """Take the ranking of a query, best first; of a document that comes twice the first place counts."""
        self._run[query_id] = scores_by_rank(document_ids)
        self._report += report
        self._num_fallbacks += report.fallback is not None

    def fail(self, query_id: str, reason: str) -> None:
        """Take it that the query has no ranking, which then counts as zero."""
        self._run[query_id] = {}
        self._failed[query_id] = reason

    def rankings(self) -> Rankings:
        """Return what was taken so far."""
        return Rankings(self._run, self._report, self._num_fallbacks, self._failed)


def scores_by_rank(document_ids: Iterable[str]) -> dict[str, float]:
    """Return each document once, where it comes first, with scores that fall by rank: ties would change the order."""
    unique = list(dict.fromkeys(document_ids))
    return {document_id: float(len(unique) - index) for index, document_id in enumerate(unique)}
