"""Finds chunks whose vectors are nearest to the query's."""

import asyncio

from rag_server.protocols import Embedder, Indexes
from rag_server.types import Hit, Query


class DenseRetriever:
    """Embeds the query once and searches the vector index of each vector store."""

    def __init__(self, embedder: Embedder, indexes: Indexes) -> None:
        self._embedder = embedder
        self._indexes = indexes

    async def retrieve(self, query: Query, k: int) -> list[Hit]:
        """Return up to `k` chunks, highest inner product first."""
        return await asyncio.to_thread(self._search, query, k)

    def _search(self, query: Query, k: int) -> list[Hit]:
        vector = self._embedder.embed_queries([query.text])[0]
        hits = [hit for store in query.vector_stores for hit in self._indexes.vectors(store).search(vector, k)]
        return sorted(hits, key=lambda hit: -hit.score)[:k]
