"""Finds chunks whose vectors are nearest to the query's."""

import asyncio
from collections.abc import Mapping

from rag_server.protocols import ChunkSelection, Indexes, QueryVectors
from rag_server.types import Hit, Query, Vectors


class DenseRetriever:
    """Embeds the query once per model and searches the vector index of each vector store."""

    def __init__(self, query_vectors: QueryVectors, indexes: Indexes, selection: ChunkSelection) -> None:
        self._query_vectors = query_vectors
        self._indexes = indexes
        self._selection = selection

    async def retrieve(self, query: Query, k: int) -> list[Hit]:
        """Return up to `k` of the chunks that the query may find, highest inner product first."""
        # By the name of the model.
        vectors: dict[str, Vectors] = {}
        for store in query.vector_stores:
            if store.embedding_model not in vectors:
                vectors[store.embedding_model] = await self._query_vectors.vector(store, query.text)
        return await asyncio.to_thread(self._search, query, k, vectors)

    def _search(self, query: Query, k: int, vectors: Mapping[str, Vectors]) -> list[Hit]:
        hits: list[Hit] = []
        for store in query.vector_stores:
            index = self._indexes.vectors(store, head=query.heads.get(store.id))
            hits += index.search(vectors[store.embedding_model], k, allowed=self._selection.chunk_ids(store, query))
        return sorted(hits, key=lambda hit: -hit.score)[:k]
