"""Finds chunks whose vectors are nearest to the query's."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rag_server.coalescing import Coalescer, half_of_the_cores
from rag_server.protocols import ChunkSelection, Indexes, QueryVectors
from rag_server.types import Hit, Query, Vectors, VectorStore


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
        self._searches = Coalescer(self._search_all, at_once=half_of_the_cores())

    async def retrieve(self, query: Query, k: int) -> list[Hit]:
        """Return up to `k` of the chunks that the query may find, highest inner product first."""
        # By the name of the model.
        vectors: dict[str, Vectors] = {}
        for store in query.vector_stores:
            if store.embedding_model not in vectors:
                vectors[store.embedding_model] = await self._query_vectors.vector(store, query.text)
        return await self._searches.result(_Search(query, k, vectors))

    def _search_all(self, searches: Sequence[_Search]) -> list[list[Hit] | Exception]:
        """Search each index once for all that may find the same in it."""
        alike: dict[tuple[VectorStore, object, object, str, int], list[_Search]] = defaultdict(list)
        for search in searches:
            for store in search.query.vector_stores:
                alike[_scope(store, search)].append(search)
        found: dict[_Search, list[Hit]] = {search: [] for search in searches}
        failed: dict[_Search, Exception] = {}
        for (store, *_), group in alike.items():
            try:
                for search, hits in zip(group, self._search(store, group), strict=True):
                    found[search] += hits
            except Exception as error:  # noqa: BLE001 - whoever waits for it gets it
                failed |= dict.fromkeys(group, error)
        return [failed.get(search) or _best(hits, search.k) for search, hits in found.items()]

    def _search(self, store: VectorStore, alike: Sequence[_Search]) -> list[list[Hit]]:
        query, k = alike[0].query, alike[0].k
        index = self._indexes.vectors(store, head=query.heads.get(store.id))
        vectors = [search.vectors[store.embedding_model] for search in alike]
        return index.search_each(vectors, k, allowed=self._selection.chunk_ids(store, query))


def _scope(store: VectorStore, search: _Search) -> tuple[VectorStore, object, object, str, int]:
    """Return what decides, beside its vectors, what a search finds in a vector store."""
    query = search.query
    # The filter as text: 1 and True are equal, and are not the same filter.
    return store, query.heads.get(store.id), query.access, repr(query.filter), search.k


def _best(hits: list[Hit], k: int) -> list[Hit]:
    # Of equal scores those of the smaller id, whichever store was searched first.
    return sorted(hits, key=lambda hit: (-hit.score, hit.chunk_id))[:k]
