"""Fusion by a worked example, and the cache of found passages."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from rag_server.cache.keys import cache_key
from rag_server.coalescing import Coalescer
from rag_server.errors import InvalidFilterError
from rag_server.types import Access, Comparison, Cursor, FoundAt, Hit, Query, VectorStore
from retrievers.cached import CachedRetriever, search_scope
from retrievers.dense import DenseRetriever
from retrievers.hybrid import HybridRetriever, reciprocal_rank_fusion
from retrievers.query_vectors import CachedQueryVectors
from tests.contracts.cache_world import Memory

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


class QueryVectors:
    """Has the text for its vector."""

    async def vector(self, store: VectorStore, text: str) -> str:
        return text


class Log:
    """A log whose head can be moved."""

    def __init__(self) -> None:
        self.cursor = Cursor(1, 0)

    def head(self, vector_store: VectorStore) -> Cursor:
        return self.cursor


def test_fused_score_is_the_sum_of_reciprocal_ranks() -> None:
    """Each ranking adds 1 / (60 + rank)."""
    rankings = {"dense": [Hit(1, 0.9), Hit(2, 0.8), Hit(3, 0.7)], "lexical": [Hit(3, 12.0), Hit(1, 11.0)]}

    fused = reciprocal_rank_fusion(rankings)

    assert [(hit.chunk_id, hit.score) for hit in fused] == [
        (1, pytest.approx(1 / 61 + 1 / 62)),
        (3, pytest.approx(1 / 63 + 1 / 61)),
        (2, pytest.approx(1 / 62)),
    ]


def test_the_best_of_a_fusion_are_its_first() -> None:
    """With a number only so many are returned, with what they have without it."""
    rankings = {"dense": [Hit(id_, 1.0) for id_ in (4, 2, 9, 7)], "lexical": [Hit(id_, 1.0) for id_ in (7, 1, 4)]}
    whole = reciprocal_rank_fusion(rankings)

    assert [hit.chunk_id for hit in whole] == [4, 7, 2, 1, 9]
    assert reciprocal_rank_fusion(rankings, 3) == whole[:3]


def test_fused_hit_says_where_it_was_found() -> None:
    """Each ranking that holds a chunk is named, with the rank and the score that the chunk has there."""
    one, two, three = sorted(
        reciprocal_rank_fusion({"dense": [Hit(1, 0.9), Hit(2, 0.8)], "lexical": [Hit(3, 12.0), Hit(1, 11.0)]}),
        key=lambda hit: hit.chunk_id,
    )

    assert one.found == (FoundAt("dense", 1, 0.9), FoundAt("lexical", 2, 11.0))
    assert two.found == (FoundAt("dense", 2, 0.8),)
    assert three.found == (FoundAt("lexical", 1, 12.0),)


async def test_hybrid_asks_every_retriever_and_cuts_after_fusion() -> None:
    """A chunk that both find goes before chunks that one finds first."""
    hybrid = HybridRetriever({"dense": Fixed([1, 5]), "lexical": Fixed([2, 5])})

    assert [hit.chunk_id for hit in await hybrid.retrieve(Query("q", (STORE,)), 2)] == [5, 1]


async def test_dense_merges_vector_stores_by_score() -> None:
    """Hits of several vector stores are merged, best first, and cut to k."""

    class Everything:
        def chunk_ids(self, store: VectorStore, query: Query) -> None:
            return None

    class Index:
        def __init__(self, *hits: Hit) -> None:
            self.hits = hits

        def search_each(self, vectors: Sequence[object], k: int, *, allowed: object) -> list[list[Hit]]:
            return [list(self.hits[:k]) for _ in vectors]

    class Indexes:
        def vectors(self, store: VectorStore, *, head: Cursor | None) -> Index:
            return {"vs_1": Index(Hit(1, 0.9), Hit(2, 0.1)), "vs_2": Index(Hit(3, 0.5))}[store.id]

    found = await DenseRetriever(QueryVectors(), Indexes(), Everything()).retrieve(Query("q", (STORE, OTHER)), 2)

    assert [hit.chunk_id for hit in found] == [1, 3]


async def test_queries_that_come_together_search_an_index_once() -> None:
    """Those who may find the same are searched for at once; others, and one whose filter is wrong, by themselves."""
    calls: list[tuple[str, list[str], int, object]] = []
    began, go = threading.Event(), threading.Event()
    wrong = Comparison("eq", "year", "wrong")

    class Years:
        def chunk_ids(self, store: VectorStore, query: Query) -> str | None:
            if query.filter == wrong:
                raise InvalidFilterError("wrong")
            return None if query.filter is None else "some"

    class Index:
        def __init__(self, store_id: str) -> None:
            self.store_id = store_id

        def search_each(self, vectors: Sequence[str], k: int, *, allowed: object) -> list[list[Hit]]:
            began.set()
            assert go.wait(30)
            calls.append((self.store_id, list(vectors), k, allowed))
            return [[Hit(int(text), 1.0)] for text in vectors]

    class Indexes:
        def vectors(self, store: VectorStore, *, head: Cursor | None) -> Index:
            return Index(store.id)

    retriever = DenseRetriever(QueryVectors(), Indexes(), Years())
    retriever._searches = Coalescer(retriever._search_all, most=32)
    year = Comparison("eq", "year", 1999)
    first = asyncio.ensure_future(retriever.retrieve(Query("1", (STORE,)), 5))
    await asyncio.to_thread(began.wait, 30)
    later = [
        asyncio.ensure_future(retriever.retrieve(query, k))
        for query, k in (
            (Query("2", (STORE,)), 5),
            (Query("3", (STORE, OTHER)), 5),
            (Query("4", (STORE,), filter=year), 5),
            (Query("5", (STORE,), filter=wrong), 5),
            (Query("6", (STORE,)), 4),
            (Query("7", (STORE,)), 5),
            (Query("8", (STORE,), Access("another")), 5),
        )
    ]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    go.set()
    found = await asyncio.gather(first, *later, return_exceptions=True)

    told = [repr(hits) if isinstance(hits, Exception) else [hit.chunk_id for hit in hits] for hits in found]
    assert told == [[1], [2], [3, 3], [4], "InvalidFilterError('wrong')", [6], [7], [8]]
    assert calls == [
        ("vs_1", ["1"], 5, None),
        ("vs_1", ["2", "3", "7"], 5, None),
        ("vs_2", ["3"], 5, None),
        ("vs_1", ["4"], 5, "some"),
        ("vs_1", ["6"], 4, None),
        ("vs_1", ["8"], 5, None),
    ]


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


async def test_what_is_remembered_says_where_it_was_found() -> None:
    """Hits come out of the cache as they went in; what an earlier layout left there is not looked up."""
    hybrid = HybridRetriever({"dense": Fixed([1, 5]), "lexical": Fixed([2, 5])})
    memory = Memory()
    cached = CachedRetriever(hybrid, cache=memory, key=cache_key, log=Log(), name="hybrid")

    first, again = [await cached.retrieve(Query("q", (STORE,)), 3) for _ in range(2)]

    assert first == again
    assert again[0].found == (FoundAt("dense", 2, 1.0), FoundAt("lexical", 2, 1.0))
    parts = {"query": "q", "k": 3, **search_scope(Query("q", (STORE,), heads={"vs_1": Cursor(1, 0)}))}
    assert cache_key("hits", retriever="hybrid", **parts) not in memory.values


async def test_query_is_embedded_once_per_model() -> None:
    """Another text or model is embedded; what is remembered is the vector itself, and nothing else is taken for one."""

    class Embedder:
        dimension = 3

        def __init__(self, model_id: str) -> None:
            self.model_id = model_id
            self.calls = 0

        def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
            self.calls += 1
            return np.array([[0.6, 0.0, 0.8] for _ in texts], dtype=np.float32)

    class Embedders:
        def __init__(self) -> None:
            self.by_id = {model_id: Embedder(model_id) for model_id in ("m", "other")}

        def of(self, store: VectorStore) -> Embedder:
            return self.by_id[store.embedding_model]

    embedders, memory = Embedders(), Memory()
    vectors = CachedQueryVectors(embedders, cache=memory, key=cache_key)
    first, again = [await vectors.vector(store, "q") for store in (STORE, OTHER)]
    assert embedders.by_id["m"].calls == 1
    assert first.tolist() == again.tolist()
    assert again.dtype == np.float32

    await vectors.vector(STORE, "Q")
    await vectors.vector(replace(STORE, embedding_model="other"), "q")
    assert (embedders.by_id["m"].calls, embedders.by_id["other"].calls) == (2, 1)

    long, missing = np.array([9, 0, 0], "<f4").tobytes(), np.array([np.nan, 0, 0], "<f4").tobytes()
    for number, value in enumerate((b"", b"x" * 11, b"x" * 16, long, missing), start=3):
        memory.values = dict.fromkeys(memory.values, value)
        assert (await vectors.vector(STORE, "q")).tolist() == first.tolist()
        assert embedders.by_id["m"].calls == number


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff",
        b"{}",
        b"null",
        b"[1]",
        b"[[1, 1]]",
        b'[["1", 1, []]]',
        b"[[1, 1, 1]]",
        b"[[true, 1, []]]",
        b"[[1, NaN, []]]",
        b'[[1, 1, ["dense"]]]',
        b"[[1, 1, [[7, 1, 1]]]]",
        b'[[1, 1, [["dense", true, 1]]]]',
        b'[[1, 1, [["dense", 1, NaN]]]]',
    ],
)
async def test_garbled_hits_are_searched_for_anew(value: bytes) -> None:
    """What is no list of hits is a miss."""
    inner, memory = Fixed([1, 2, 3]), Memory()
    cached = CachedRetriever(inner, cache=memory, key=cache_key, log=Log(), name="dense")
    found = await cached.retrieve(Query("q", (STORE,)), 2)
    memory.values = dict.fromkeys(memory.values, value)

    assert await cached.retrieve(Query("q", (STORE,)), 2) == found
    assert inner.calls == 2
