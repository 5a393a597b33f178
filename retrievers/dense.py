"""Finds chunks whose vectors are nearest to the query's."""

from collections.abc import Mapping
from dataclasses import dataclass

from rag_server.coalescing import one_by_one
from rag_server.protocols import ChunkSelection, Indexes, QueryVectors
from rag_server.types import Hit, Query, Vectors


@dataclass(frozen=True, slots=True, eq=False)
class _Search:
    """A query with its vectors, by the name of the model."""

    query: Query
    k: int
    vectors: Mapping[str, Vectors]


class DenseRetriever:
    """Embeds the query once per model and searches the vector index of each vector store."""

    def __init__(self, query_vectors: QueryVectors, indexes: Indexes, selection: ChunkSelection) -> None:
        self._query_vectors = query_vectors
        self._indexes = indexes
        self._selection = selection
        self._searches = one_by_one(self._found)

    async def retrieve(self, query: Query, k: int) -> list[Hit]:
        """Return up to `k` of the chunks that the query may find, highest inner product first."""
        # By the name of the model.
        vectors: dict[str, Vectors] = {}
        for store in query.vector_stores:
            if store.embedding_model not in vectors:
                vectors[store.embedding_model] = await self._query_vectors.vector(store, query.text)
        return await self._searches.result(_Search(query, k, vectors))

    def _found(self, search: _Search) -> list[Hit]:
        hits: list[Hit] = []
        query = search.query
        for store in query.vector_stores:
            index, vector = self._indexes.vectors(store, head=query.heads.get(store.id)), search.vectors[store.embedding_model]
            hits += index.search(vector, search.k, allowed=self._selection.chunk_ids(store, query))
        return sorted(hits, key=lambda hit: -hit.score)[: search.k]
