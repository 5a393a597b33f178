"""Finds chunks whose vectors are nearest to the query's."""

import asyncio

from rag_server.protocols import ChunkSelection, Embedders, Indexes
from rag_server.types import Hit, Query, Vectors


class DenseRetriever:
    """Embeds the query once per model and searches the vector index of each vector store."""

    def __init__(self, embedders: Embedders, indexes: Indexes, selection: ChunkSelection) -> None:
        self._embedders = embedders
        self._indexes = indexes
        self._selection = selection

    async def retrieve(self, query: Query, k: int) -> list[Hit]:
        """Return up to `k` of the chunks that the query may find, highest inner product first."""
        return await asyncio.to_thread(self._search, query, k)

    def _search(self, query: Query, k: int) -> list[Hit]:
        vectors: dict[str, Vectors] = {}
        hits: list[Hit] = []
        for store in query.vector_stores:
            embedder = self._embedders.of(store)
            if embedder.model_id not in vectors:
                vectors[embedder.model_id] = embedder.embed_queries([query.text])[0]
            index = self._indexes.vectors(store)
            hits += index.search(vectors[embedder.model_id], k, allowed=self._selection.chunk_ids(store, query))
        return sorted(hits, key=lambda hit: -hit.score)[:k]
