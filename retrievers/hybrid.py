"""Fuses the rankings of several retrievers."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from rag_server.protocols import Retriever
from rag_server.types import Hit, Query

# The constant of the original paper; larger means that low ranks weigh more.
RANK_CONSTANT = 60


class HybridRetriever:
    """Asks its retrievers at the same time and fuses their answers by reciprocal rank."""

    def __init__(self, retrievers: Sequence[Retriever]) -> None:
        self._retrievers = retrievers

    async def retrieve(self, query: Query, k: int) -> list[Hit]:
        """Return up to `k` chunks, highest fused score first."""
        rankings = await asyncio.gather(*(retriever.retrieve(query, k) for retriever in self._retrievers))
        return reciprocal_rank_fusion(rankings)[:k]


def reciprocal_rank_fusion(rankings: Sequence[Sequence[Hit]]) -> list[Hit]:
    """Return every chunk once with the score sum(1 / (60 + rank)) over the rankings that hold it, best first.

    Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods",
    SIGIR 2009. Equal scores keep the order of the first ranking that holds them.
    """
    scores: dict[int, float] = defaultdict(float)
    for ranking in rankings:
        for rank, hit in enumerate(ranking, start=1):
            scores[hit.chunk_id] += 1 / (RANK_CONSTANT + rank)
    return [Hit(chunk_id, score) for chunk_id, score in sorted(scores.items(), key=lambda item: -item[1])]
