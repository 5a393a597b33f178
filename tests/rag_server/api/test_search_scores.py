"""Scores of search results: within 0 and 1, never rising, and named."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_server.api.search_scores import shown_scores
from rag_server.types import Hit, Passage, Ranking, RankingReport
from retrievers.hybrid import reciprocal_rank_fusion

finite = st.floats(-1e6, 1e6)


def ranking(scores: Sequence[float], *, fallback: str | None = None) -> Ranking:
    passages = tuple(Passage(n, "d", "f", "f", "t", "x", 0, 1, score, n + 1) for n, score in enumerate(scores))
    return Ranking(passages, RankingReport(fallback=fallback))


@pytest.mark.parametrize(
    ("retrieve", "rerank", "name"),
    [
        ("dense", "none", "cosine"),
        ("lexical", "none", "bm25"),
        ("hybrid", "none", "fused_ranks"),
        ("hybrid", "full_ranking", "reciprocal_rank"),
        ("hybrid", "sliding_window", "reciprocal_rank"),
        ("dense", "cross_encoder", "model"),
        ("dense", "listwise_scorer", "model"),
    ],
)
@given(scores=st.lists(finite, min_size=1, max_size=50))
def test_every_score_is_within_bounds_and_follows_the_order(retrieve: str, rerank: str, name: str, scores: list[float]) -> None:
    """Whatever a retriever or a model gives, in falling order, is shown in falling order from 0 to 1."""
    shown, kind = shown_scores(ranking(sorted(scores, reverse=True)), retrieve=retrieve, rerank=rerank)

    assert kind in (name, f"{name}_logistic")
    assert all(0 <= score <= 1 for score in shown)
    assert shown == sorted(shown, reverse=True)


def test_scores_are_what_their_name_says() -> None:
    """Worked examples: a similarity as it is, s / (1 + s), 1 / rank, the logistic function, a half for one of two."""
    both_first, one_only = reciprocal_rank_fusion({"dense": [Hit(1, 9.0), Hit(2, 8.0)], "lexical": [Hit(1, 0.5)]})
    fused = [both_first.score, 1 / 61]

    examples = {
        ("dense", "none"): ([0.8, -0.3], [0.8, 0.0]),
        ("lexical", "none"): ([3.0, 1.0], [0.75, 0.5]),
        ("hybrid", "none"): (fused, [1.0, 0.5]),
        ("hybrid", "full_ranking"): ([0.1, 0.9, 0.5], [1.0, 1 / 2, 1 / 3]),
        ("hybrid", "cross_encoder"): ([0.9, 0.2], [0.9, 0.2]),
        ("hybrid", "listwise_scorer"): ([2.0, -1.0], [1 / (1 + math.exp(-2)), 1 / (1 + math.exp(1))]),
    }

    for (retrieve, rerank), (scores, expected) in examples.items():
        assert shown_scores(ranking(scores), retrieve=retrieve, rerank=rerank)[0] == pytest.approx(expected)
    assert one_only.score < both_first.score


def test_ranking_that_fell_back_shows_the_scores_of_the_search() -> None:
    """When the reranker was not used, its kind of score would be invented."""
    shown, kind = shown_scores(ranking([0.7, 0.6], fallback="too slow"), retrieve="dense", rerank="full_ranking")

    assert (shown, kind) == ([0.7, 0.6], "cosine")
