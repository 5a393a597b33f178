"""Fuses the rankings of several retrievers."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import starmap

from rag_server.coalescing import all_of
from rag_server.protocols import Retriever
from rag_server.types import FoundAt, Hit, Query

# The constant of the original paper; larger means that low ranks weigh more.
RANK_CONSTANT = 60


class HybridRetriever:
    """Asks its retrievers at the same time and fuses their answers by reciprocal rank."""

    def __init__(self, retrievers: Mapping[str, Retriever]) -> None:
        """Take the retrievers by the names that the hits bear."""
        self._retrievers = retrievers

    async def retrieve(self, query: Query, k: int) -> list[Hit]:
        """Return up to `k` chunks, highest fused score first."""
        rankings = await all_of(retriever.retrieve(query, k) for retriever in self._retrievers.values())
        return reciprocal_rank_fusion(dict(zip(self._retrievers, rankings, strict=True)), k)


def reciprocal_rank_fusion(rankings: Mapping[str, Sequence[Hit]], k: int | None = None) -> list[Hit]:
    """Return every chunk once, or the `k` best, with the score sum(1 / (60 + rank)) over the rankings that hold it, best first.

    Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods",
    SIGIR 2009. Equal scores keep the order of the first ranking that holds them.
    """
    places: dict[int, list[tuple[str, int, float]]] = defaultdict(list)
    scores: dict[int, float] = defaultdict(float)
    for name, ranking in rankings.items():
        for rank, hit in enumerate(ranking, start=1):
            places[hit.chunk_id].append((name, rank, hit.score))
            scores[hit.chunk_id] += 1 / (RANK_CONSTANT + rank)
    best = sorted(scores, key=lambda chunk_id: -scores[chunk_id])[:k]
    return [Hit(chunk_id, scores[chunk_id], tuple(starmap(FoundAt, places[chunk_id]))) for chunk_id in best]
