"""Finds chunks that share words with the query."""

from dataclasses import dataclass

from rag_server.coalescing import one_by_one
from rag_server.protocols import ChunkSelection, Indexes
from rag_server.types import Hit, Query


@dataclass(frozen=True, slots=True, eq=False)
class _Search:
    query: Query
    k: int


class LexicalRetriever:
    """Searches the BM25 index of each vector store."""

    def __init__(self, indexes: Indexes, selection: ChunkSelection) -> None:
        self._indexes = indexes
        self._selection = selection
        self._searches = one_by_one(self._found)

    async def retrieve(self, query: Query, k: int) -> list[Hit]:
        """Return up to `k` of the chunks that the query may find, highest BM25 score first.

        Across vector stores the scores are merely comparable.
        """
        return await self._searches.result(_Search(query, k))

    def _found(self, search: _Search) -> list[Hit]:
        hits: list[Hit] = []
        query = search.query
        for store in query.vector_stores:
            index = self._indexes.lexical(store, head=query.heads.get(store.id))
            hits += index.search(query.text, search.k, allowed=self._selection.chunk_ids(store, query))
        return sorted(hits, key=lambda hit: -hit.score)[: search.k]
