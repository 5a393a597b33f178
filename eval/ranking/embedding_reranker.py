"""Orders candidates by the cosine of an embedding model: what a reranker has to beat."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

from rag_server.protocols import Embedder
from rag_server.types import Passage, Ranking, RankingReport


class EmbeddingReranker:
    """Dense retrieval on the candidates alone: query and passages, titles included, are embedded apart from each other."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    async def rerank(self, query: str, passages: Sequence[Passage]) -> Ranking:
        """Return the passages by their cosine with the query, which becomes their score."""
        return await asyncio.to_thread(self._rerank, query, passages)

    def _rerank(self, query: str, passages: Sequence[Passage]) -> Ranking:
        started = time.perf_counter()
        texts = [f"{passage.title}\n{passage.text}".strip() for passage in passages]
        # The vectors are of unit length.
        cosines = (self._embedder.embed_passages(texts) @ self._embedder.embed_queries([query])[0]).tolist()
        scored = sorted(zip(cosines, passages, strict=True), key=lambda pair: -pair[0])
        ordered = tuple(replace(passage, score=score, rank=rank) for rank, (score, passage) in enumerate(scored, start=1))
        return Ranking(ordered, RankingReport(seconds=time.perf_counter() - started))
