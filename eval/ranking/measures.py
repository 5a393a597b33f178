"""Measures rankings against judgments, for each query and on average."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ir_measures
from ir_measures import AP, RR, R, nDCG

from eval.ranking.rankings import Run
from eval.significance import Interval, bootstrap_interval, check_same_queries

# Query id -> document id -> grade.
Judgments = Mapping[str, Mapping[str, int]]
NDCG_10, NDCG_5, MAP, MRR_10, RECALL_100 = "nDCG@10", "nDCG@5", "MAP", "MRR@10", "recall@100"


@dataclass(frozen=True, slots=True)
class Measured:
    """The value of each measure (by name) for each query (by id)."""

    per_query: Mapping[str, Mapping[str, float]]

    def mean(self, name: str) -> float:
        """Return the measure's mean over the queries."""
        return statistics.fmean(self.per_query[name].values())

    def means(self) -> dict[str, float]:
        """Return the mean of every measure."""
        return {name: self.mean(name) for name in self.per_query}

    def interval(self, name: str) -> Interval:
        """Return the measure's mean with its 95 % bootstrap interval."""
        return bootstrap_interval(list(self.per_query[name].values()))


def measure(qrels: Judgments, run: Run, *, relevant_from: int = 1) -> Measured:
    """Return every measure of the run; a query that ranks nothing counts as zero.

    nDCG takes the grades themselves as gains, as trec_eval does; the others count a document as relevant from the grade
    `relevant_from`. Documents are ordered by their scores.

    Raises:
        ConfigError: The run is not over the judged queries.
    """
    check_same_queries(qrels.keys(), run.keys(), names=("the judgments", "the run"))
    measures = _measures(relevant_from)
    names = {of_library: name for name, of_library in measures.items()}
    per_query = {name: dict.fromkeys(qrels, 0.0) for name in measures}
    for value in ir_measures.iter_calc(list(names), qrels, run):
        per_query[names[value.measure]][value.query_id] = float(value.value)
    return Measured(per_query)


def _measures(relevant_from: int) -> dict[str, Any]:
    return {
        NDCG_10: nDCG @ 10,
        NDCG_5: nDCG @ 5,
        MAP: AP(rel=relevant_from),
        MRR_10: RR(rel=relevant_from) @ 10,
        RECALL_100: R(rel=relevant_from) @ 100,
    }
