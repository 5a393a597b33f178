"""Holds the embedding model of every vector store that is searched, so that a query is never embedded by another one."""

import threading
from collections.abc import Callable

from rag_server.errors import ConfigError, EmbeddingModelGoneError
from rag_server.protocols import Embedder
from rag_server.types import VectorStore


class StoreEmbedders:
    """The configured model, and on first use those that vector stores were built with."""

    def __init__(self, configured: Embedder, load: Callable[[str | None], Embedder]) -> None:
        """Start with the configured model; `load` loads one from a location."""
        self._load = load
        self._lock = threading.Lock()
        self._by_id: dict[str, Embedder] = {configured.model_id: configured}

    def of(self, vector_store: VectorStore) -> Embedder:
        """Return the model that the vector store's vectors come from.

        Raises:
            EmbeddingModelGoneError: It is not where it was, or it is another one now.
        """
        with self._lock:
            found = self._by_id.get(vector_store.embedding_model)
            if found is None:
                found = self._loaded(vector_store)
                self._by_id[vector_store.embedding_model] = found
        return found

    def _loaded(self, vector_store: VectorStore) -> Embedder:
        where = vector_store.embedding_location or "the packaged model"
        remedy = "put it back, or give the collection another model with `rag-server index --change-model`"
        named = f"collection {vector_store.name!r} was built with {vector_store.embedding_model}"
        try:
            found = self._load(vector_store.embedding_location)
        except ConfigError as error:
            raise EmbeddingModelGoneError(f"{named}, which cannot be loaded ({error}); {remedy}") from error
        if (found.model_id, found.dimension) != (vector_store.embedding_model, vector_store.dimension):
            raise EmbeddingModelGoneError(f"{named}, but {where} is {found.model_id} now; {remedy}")
        return found
