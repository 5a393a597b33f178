"""The measures of rankings by worked examples."""

import math

import pytest

from eval.ranking.measures import MAP, MRR_10, NDCG_5, NDCG_10, RECALL_100, measure
from eval.ranking.rankings import scores_by_rank
from rag_server.errors import ConfigError


def test_ndcg_takes_the_grades_as_gains() -> None:
    """nDCG weighs a grade by 1 / log2(rank + 1) and divides by the best order; gains are linear, not 2^grade - 1."""
    qrels = {"q": {"a": 3, "b": 1, "c": 2}}

    measured = measure(qrels, {"q": scores_by_rank(["x", "b", "a"])})

    gained = 1 / math.log2(3) + 3 / math.log2(4)
    best = 3 / math.log2(2) + 2 / math.log2(3) + 1 / math.log2(4)
    assert measured.mean(NDCG_10) == pytest.approx(gained / best)


def test_cut_offs_are_kept() -> None:
    """nDCG@5 does not see rank 6, MRR@10 does not see rank 11, recall@100 does not see rank 101."""
    qrels = {"q": {"a": 1, "b": 1, "c": 1}}
    filler = [f"x{number}" for number in range(200)]
    ranked = [*filler[:5], "a", *filler[5:94], "b", *filler[94:100], "c"]

    measured = measure(qrels, {"q": scores_by_rank(ranked)})

    assert measured.mean(NDCG_5) == 0
    assert measured.mean(MRR_10) == pytest.approx(1 / 6)
    assert measured.mean(RECALL_100) == pytest.approx(2 / 3)
    assert measure(qrels, {"q": scores_by_rank([*filler[:10], "a"])}).mean(MRR_10) == 0


def test_average_precision_is_the_worked_example() -> None:
    """Relevant documents at ranks 1 and 3, one of three not found: (1/1 + 2/3) / 3."""
    measured = measure({"q": {"a": 1, "b": 2, "c": 1}}, {"q": scores_by_rank(["a", "x", "b"])})

    assert measured.mean(MAP) == pytest.approx((1 + 2 / 3) / 3)


def test_relevance_without_grades_begins_where_it_is_said() -> None:
    """From grade 2 on, a document of grade 1 is relevant for nDCG alone."""
    qrels, run = {"q": {"a": 1, "b": 2}}, {"q": scores_by_rank(["a", "b"])}

    measured, strict = measure(qrels, run), measure(qrels, run, relevant_from=2)

    assert (measured.mean(MRR_10), strict.mean(MRR_10)) == (1.0, 0.5)
    assert (measured.mean(MAP), strict.mean(MAP)) == (1.0, 0.5)
    assert measured.mean(NDCG_10) == strict.mean(NDCG_10)


def test_query_that_ranks_nothing_counts_as_zero() -> None:
    """A failed query stays in the average, in every measure."""
    measured = measure({"q1": {"a": 1}, "q2": {"a": 1}}, {"q1": {"a": 1.0}, "q2": {}})

    assert measured.means() == dict.fromkeys((NDCG_10, NDCG_5, MAP, MRR_10, RECALL_100), 0.5)
    assert measured.per_query[NDCG_10] == {"q1": 1.0, "q2": 0.0}
    assert measured.interval(NDCG_10).low == 0.0


def test_query_without_relevant_document_stays_in_the_average() -> None:
    """A query whose judgments are all 0 counts as zero, as a run without it would."""
    measured = measure({"q1": {"a": 1}, "q2": {"a": 0}}, {"q1": {"a": 1.0}, "q2": {"a": 1.0}})

    assert measured.per_query[NDCG_10] == {"q1": 1.0, "q2": 0.0}


def test_run_over_other_queries_is_refused() -> None:
    """A run that leaves out a judged query, or has another, is not measured: its average would not compare."""
    qrels = {"q1": {"a": 1}, "q2": {"a": 1}}

    with pytest.raises(ConfigError, match=r"1 \(q2\) only in the judgments"):
        measure(qrels, {"q1": {"a": 1.0}})
    with pytest.raises(ConfigError, match=r"1 \(q3\) only in the run"):
        measure(qrels, {"q1": {"a": 1.0}, "q2": {}, "q3": {"a": 1.0}})
