"""Remembers what another retriever found, for as long as nothing changes in the vector stores that were searched."""

import asyncio
import json
import math
from collections.abc import Callable
from dataclasses import replace

from rag_server.coalescing import SharedReads, all_of
from rag_server.observability import CACHE_LOOKUPS
from rag_server.protocols import Cache, ChunkLog, Json, Retriever
from rag_server.types import Cursor, FoundAt, Hit, Query, VectorStore

KEEP_S = 3600
# How hits are packed; what was packed otherwise is never looked up.
LAYOUT = "with places"
# The largest number that the store's column of ids holds.
MAX_CHUNK_ID = 2**63 - 1


class CachedRetriever:
    """Keys on the head of each vector store's log, so that an answer from before a change can never be found again."""

    def __init__(self, inner: Retriever, *, cache: Cache, key: Callable[..., str], log: ChunkLog, name: str) -> None:
        """Wrap `inner`; `name` tells retrievers and their settings apart that would find different passages."""
        self._inner = inner
        self._cache = cache
        self._key = key
        self._heads = Heads(log)
        self._name = name

    async def retrieve(self, query: Query, k: int) -> list[Hit]:
        """Return what `inner` finds, or found."""
        query = await self._heads.added_to(query)
        key = self._key("hits", retriever=f"{self._name} {LAYOUT}", query=query.text, k=k, **search_scope(query))
        remembered = await self._cache.get(key)
        if remembered is not None:
            known = _unpacked(remembered, k)
            if known is not None:
                return known
            CACHE_LOOKUPS.labels("hits", "garbled").inc()
        hits = await self._inner.retrieve(query, k)
        await self._cache.set(key, json.dumps([_packed(hit) for hit in hits]).encode(), KEEP_S)
        return hits


class Heads:
    """Reads how far the logs of vector stores have come, once for all who ask at the same time."""

    def __init__(self, log: ChunkLog) -> None:
        self._reads = SharedReads[VectorStore, Cursor](lambda store: asyncio.to_thread(log.head, store))

    async def added_to(self, query: Query) -> Query:
        """Return the query with the heads of its vector stores, read now unless it has them."""
        if all(store.id in query.heads for store in query.vector_stores):
            return query
        found = await all_of(map(self._reads.result, query.vector_stores))
        return replace(query, heads={store.id: head for store, head in zip(query.vector_stores, found, strict=True)})


def search_scope(query: Query) -> Json:
    """Return what, beside its text, decides what a query with heads finds: who asks, and the state of the vector stores."""
    heads = [(store, query.heads[store.id]) for store in query.vector_stores]
    principals = query.access.principals
    return {
        "generations": [[store.id, store.embedding_model, head.chunk_id, head.deletion_id] for store, head in heads],
        # A filter and a list of principals narrow what is found; nobody must be answered with another's.
        "tenant": query.access.tenant,
        "principals": None if principals is None else sorted(principals),
        # As text: 1 and True are equal, and are not the same filter.
        "filter": repr(query.filter),
    }


def _packed(hit: Hit) -> list[object]:
    return [hit.chunk_id, hit.score, [[at.retriever, at.rank, at.score] for at in hit.found]]


def _unpacked(value: bytes, k: int) -> list[Hit] | None:
    """Return the hits, None if the bytes are no list of up to `k` of them."""
    try:
        listed = json.loads(value)
        hits = [
            Hit(chunk_id, float(score), tuple(FoundAt(name, rank, float(at)) for name, rank, at in found))
            for chunk_id, score, found in listed
        ]
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None
    return hits if isinstance(listed, list) and len(hits) <= k and all(map(_is_possible, hits)) else None


def _is_possible(hit: Hit) -> bool:
    is_named = all(type(at.retriever) is str and type(at.rank) is int and math.isfinite(at.score) for at in hit.found)
    return is_named and type(hit.chunk_id) is int and 0 < hit.chunk_id <= MAX_CHUNK_ID and math.isfinite(hit.score)
