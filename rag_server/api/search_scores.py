"""Scores of search results as OpenAI shows them, from 0 to 1, and the name of what they are."""

import math
from collections.abc import Sequence

from rag_server.config import SCORING, RerankKind, RetrieveKind
from rag_server.types import Passage, Ranking
from retrievers.hybrid import RANK_CONSTANT

# What a passage gets that is the first of both rankings.
BEST_FUSED = 2 / (RANK_CONSTANT + 1)


def shown_scores(ranking: Ranking, *, retrieve: RetrieveKind, rerank: RerankKind) -> tuple[list[float], str]:
    """Return a score for each passage of the ranking, never rising, and its name.

    `model` is a reranker's own; `model_logistic` the same through the logistic function, where it is not within 0 and 1;
    `reciprocal_rank` is 1 / rank, for rerankers without scores. Without a reranker, or where it fell back: `cosine`
    similarity, cut off at 0; `bm25` as s / (1 + s); `fused_ranks`, which is 1 for the first of both searches.
    """
    passages = ranking.passages
    if rerank != "none" and ranking.report.fallback is None:
        return _of_model(passages) if rerank in SCORING else ([1 / passage.rank for passage in passages], "reciprocal_rank")
    scores = [passage.score for passage in passages]
    if retrieve == "dense":
        return [_within_bounds(score) for score in scores], "cosine"
    if retrieve == "lexical":
        return [max(0.0, score) / (1 + max(0.0, score)) for score in scores], "bm25"
    return [_within_bounds(score / BEST_FUSED) for score in scores], "fused_ranks"


def _within_bounds(score: float) -> float:
    return min(1.0, max(0.0, score))


def _of_model(passages: Sequence[Passage]) -> tuple[list[float], str]:
    scores = [passage.score for passage in passages]
    if all(0 <= score <= 1 for score in scores):
        return scores, "model"
    # Written so that no exponential grows beyond what a float holds.
    return [(1 + math.tanh(score / 2)) / 2 for score in scores], "model_logistic"
