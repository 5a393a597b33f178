"""Remembers the vectors of queries: a question that is asked again, of whatever changed documents, is not embedded again."""

import asyncio
from collections.abc import Callable

import numpy as np

from rag_server.coalescing import Coalescer
from rag_server.observability import CACHE_LOOKUPS
from rag_server.protocols import Cache, Embedder, Embedders
from rag_server.types import Vectors, VectorStore

KEEP_S = 24 * 3600
# Of a unit vector in single precision.
LENGTH_TOLERANCE = 1e-3


class CachedQueryVectors:
    """Keys on the embedding model, whose equal names mean equal vectors, and on the text."""

    def __init__(self, embedders: Embedders, *, cache: Cache, key: Callable[..., str]) -> None:
        self._embedders = embedders
        self._cache = cache
        self._key = key
        # By the names of the models that are loaded.
        self._models: dict[str, tuple[Embedder, Coalescer[str, Vectors]]] = {}

    async def vector(self, vector_store: VectorStore, text: str) -> Vectors:
        """Return the query's unit vector, one row without its axis, remembered or computed."""
        embedder, coalescer = await self._model(vector_store)
        key = self._key("vector", model=embedder.model_id, query=text)
        remembered = await self._cache.get(key)
        if remembered is not None:
            vector = _unpacked(remembered, embedder)
            if vector is not None:
                return vector
            CACHE_LOOKUPS.labels("vector", "garbled").inc()
        computed = await coalescer.result(text)
        await self._cache.set(key, computed.astype("<f4").tobytes(), KEEP_S)
        return computed

    async def _model(self, vector_store: VectorStore) -> tuple[Embedder, Coalescer[str, Vectors]]:
        """Return the model of the vector store, and what embeds with it the queries that come at the same time."""
        name = vector_store.embedding_model
        if name not in self._models:
            # A model beside the configured one may have to be loaded first.
            embedder = await asyncio.to_thread(self._embedders.of, vector_store)
            together = Coalescer[str, Vectors](lambda texts: list(embedder.embed_queries(texts)))
            self._models.setdefault(name, (embedder, together))
        return self._models[name]


def _unpacked(value: bytes, embedder: Embedder) -> Vectors | None:
    """Return the vector, None if the bytes are not one of the model's."""
    if len(value) != 4 * embedder.dimension:
        return None
    vector = np.frombuffer(value, dtype="<f4")
    # Not a number is at no distance to 1 either.
    return vector if abs(float(np.linalg.norm(vector)) - 1.0) < LENGTH_TOLERANCE else None
