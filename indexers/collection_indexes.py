"""Keeps the derived indexes of every vector store in step with the truth store's log."""

import threading
from pathlib import Path
from typing import TypeVar

from indexers.faiss_index import FaissIndex
from indexers.lexical_index import TantivyIndex
from rag_server.protocols import ChunkLog, DerivedIndex
from rag_server.types import VectorStore

LOG_PAGE_CHUNKS = 2000
Index = TypeVar("Index", bound=DerivedIndex)


class CollectionIndexes:
    """One FAISS and one BM25 index per vector store, opened on first use under `folder`."""

    def __init__(self, folder: Path, log: ChunkLog) -> None:
        self._folder = folder
        self._log = log
        self._lock = threading.Lock()
        self._vectors: dict[tuple[str, int], FaissIndex] = {}
        self._lexical: dict[str, TantivyIndex] = {}

    def vectors(self, vector_store: VectorStore) -> FaissIndex:
        """Return the vector index after it has caught up with the log."""
        key = (vector_store.id, vector_store.embedding_id)
        with self._lock:
            if key not in self._vectors:
                snapshot = self._folder / vector_store.id / f"vectors-{vector_store.embedding_id}.faiss"
                self._vectors[key] = FaissIndex(snapshot, dimension=vector_store.dimension)
        return self._caught_up(vector_store, self._vectors[key])

    def lexical(self, vector_store: VectorStore) -> TantivyIndex:
        """Return the lexical index after it has caught up with the log."""
        with self._lock:
            if vector_store.id not in self._lexical:
                self._lexical[vector_store.id] = TantivyIndex(self._folder / vector_store.id / "bm25")
        return self._caught_up(vector_store, self._lexical[vector_store.id])

    def refresh(self, vector_store: VectorStore) -> None:
        """Catch up and make the snapshots durable."""
        self.vectors(vector_store).save()
        self.lexical(vector_store).save()

    def save(self) -> None:
        """Make what was applied so far durable, so that the next start replays little."""
        for index in list(self._vectors.values()):
            index.save()

    def _caught_up(self, vector_store: VectorStore, index: Index) -> Index:
        head = self._log.head(vector_store)
        while index.cursor.chunk_id < head.chunk_id or index.cursor.deletion_id < head.deletion_id:
            index.apply(self._log.read(vector_store, index.cursor, LOG_PAGE_CHUNKS))
        return index
