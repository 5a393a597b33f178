"""Fusion by a worked example, and the cache of found passages."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from rag_server.cache.keys import cache_key
from rag_server.types import Access, Comparison, Cursor, Hit, Query, VectorStore
from retrievers.cached import CachedRetriever
from retrievers.dense import DenseRetriever
from retrievers.hybrid import HybridRetriever, reciprocal_rank_fusion

STORE = VectorStore("vs_1", "", "docs", 0, 1, "m", None, 4)
OTHER = VectorStore("vs_2", "", "other", 0, 1, "m", None, 4)


class Fixed:
    """A retriever that finds the same every time, and counts how often it was asked."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids = ids
        self.calls = 0

    async def retrieve(self, query: Query, k: int) -> list[Hit]:
        self.calls += 1
        return [Hit(id_, 1.0) for id_ in self.ids[:k]]


class Memory:
    """A cache in a dictionary."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    async def set(self, key: str, value: bytes, ttl_s: int) -> None:
        self.values[key] = value


class Log:
    """A log whose head can be moved."""

    def __init__(self) -> None:
        self.cursor = Cursor(1, 0)

    def head(self, vector_store: VectorStore) -> Cursor:
        return self.cursor


def test_fused_score_is_the_sum_of_reciprocal_ranks() -> None:
    """Each ranking adds 1 / (60 + rank)."""
    fused = reciprocal_rank_fusion([[Hit(1, 0.9), Hit(2, 0.8), Hit(3, 0.7)], [Hit(3, 12.0), Hit(1, 11.0)]])

    assert [(hit.chunk_id, hit.score) for hit in fused] == [
        (1, pytest.approx(1 / 61 + 1 / 62)),
        (3, pytest.approx(1 / 63 + 1 / 61)),
        (2, pytest.approx(1 / 62)),
    ]


async def test_hybrid_asks_every_retriever_and_cuts_after_fusion() -> None:
    """A chunk that both find goes before chunks that one finds first."""
    hybrid = HybridRetriever([Fixed([1, 5]), Fixed([2, 5])])

    assert [hit.chunk_id for hit in await hybrid.retrieve(Query("q", (STORE,)), 2)] == [5, 1]


async def test_dense_merges_vector_stores_by_score() -> None:
    """Hits of several vector stores are merged, best first, and cut to k."""

    class Embedder:
        model_id = "m"

        def embed_queries(self, texts: list[str]) -> list[str]:
            return texts

    class Embedders:
        def of(self, store: VectorStore) -> Embedder:
            return Embedder()

    class Everything:
        def chunk_ids(self, store: VectorStore, query: Query) -> None:
            return None

    class Index:
        def __init__(self, *hits: Hit) -> None:
            self.hits = hits

        def search(self, vector: object, k: int, *, allowed: object) -> list[Hit]:
            return list(self.hits[:k])

    class Indexes:
        def vectors(self, store: VectorStore) -> Index:
            return {"vs_1": Index(Hit(1, 0.9), Hit(2, 0.1)), "vs_2": Index(Hit(3, 0.5))}[store.id]

    found = await DenseRetriever(Embedders(), Indexes(), Everything()).retrieve(Query("q", (STORE, OTHER)), 2)

    assert [hit.chunk_id for hit in found] == [1, 3]


async def test_what_was_found_is_remembered_until_something_changes() -> None:
    """The same question is not searched twice; another question, number, store, asker or filter is, or a changed store."""
    inner, log = Fixed([1, 2, 3]), Log()
    cached = CachedRetriever(inner, cache=Memory(), key=cache_key, log=log, name="dense")

    first = await cached.retrieve(Query("q", (STORE,)), 2)
    again = await cached.retrieve(Query("q", (STORE,)), 2)
    assert (first, inner.calls) == (again, 1)

    await cached.retrieve(Query("Q", (STORE,)), 2)
    await cached.retrieve(Query("q", (STORE,)), 3)
    await cached.retrieve(Query("q", (STORE, OTHER)), 2)
    assert inner.calls == 4

    year = Comparison("eq", "year", 2024)
    for query in (
        Query("q", (STORE,), Access("other")),
        Query("q", (STORE,), Access("", frozenset(("a",)))),
        Query("q", (STORE,), Access("", frozenset(("b",)))),
        Query("q", (STORE,), filter=year),
        Query("q", (STORE,), filter=replace(year, value=2025)),
        # Equal to 1 in Python, and another filter.
        Query("q", (STORE,), filter=replace(year, value=1)),
        Query("q", (STORE,), filter=replace(year, value=True)),
    ):
        inner.calls = 0
        await cached.retrieve(query, 2)
        assert inner.calls == 1
    inner.calls = 4

    for log.cursor in (Cursor(2, 0), Cursor(2, 1)):
        await cached.retrieve(Query("q", (STORE,)), 2)
    assert inner.calls == 6
