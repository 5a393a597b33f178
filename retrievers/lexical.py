"""Finds chunks that share words with the query."""

import asyncio

from rag_server.protocols import ChunkSelection, Indexes
from rag_server.types import Hit, Query


class LexicalRetriever:
    """Searches the BM25 index of each vector store."""

    def __init__(self, indexes: Indexes, selection: ChunkSelection) -> None:
        self._indexes = indexes
        self._selection = selection

    async def retrieve(self, query: Query, k: int) -> list[Hit]:
        """Return up to `k` of the chunks that the query may find, highest BM25 score first.

        Across vector stores the scores are merely comparable.
        """
        return await asyncio.to_thread(self._search, query, k)

    def _search(self, query: Query, k: int) -> list[Hit]:
        hits: list[Hit] = []
        for store in query.vector_stores:
            index = self._indexes.lexical(store, head=query.heads.get(store.id))
            hits += index.search(query.text, k, allowed=self._selection.chunk_ids(store, query))
        return sorted(hits, key=lambda hit: -hit.score)[:k]
