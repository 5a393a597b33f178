"""Keeps the derived indexes of every vector store in step with the truth store's log."""

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from indexers.faiss_gpu import GpuMode
from indexers.faiss_index import FaissIndex
from indexers.lexical_index import TantivyIndex
from indexers.milvus_collection import drop_generations
from indexers.milvus_connection import MilvusConnection
from indexers.milvus_index import MilvusIndex
from indexers.snapshot_files import store_errors
from indexers.vector_maintenance import KindChoice
from rag_server.protocols import ChunkLog
from rag_server.types import Cursor, LogPage, VectorStore

log = structlog.get_logger()

LOG_PAGE_CHUNKS = 2000
VectorIndex = FaissIndex | MilvusIndex
Index = TypeVar("Index", VectorIndex, TantivyIndex)
# Told how many chunks were applied just now.
Applied = Callable[[int], None]


@dataclass
class _Entry(Generic[Index]):
    """An index, opened by its first user, and the lock of whoever follows the log with it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    index: Index | None = None
    # The cursor and the head of the log that were last found to agree.
    agreed: tuple[Cursor, Cursor] | None = None


class CollectionIndexes:
    """One vector index and one BM25 index per vector store, opened on first use under `folder`."""

    def __init__(
        self,
        folder: Path,
        log: ChunkLog,
        *,
        kind: KindChoice = "auto",
        gpu: GpuMode = "replicated",
        milvus: MilvusConnection | None = None,
    ) -> None:
        """Keep the indexes in `folder`, those of vectors in `milvus` if it is given; `kind` and `gpu` are for FAISS."""
        self._folder = folder
        self._log = log
        self._kind: KindChoice = kind
        self._gpu: GpuMode = gpu
        self._milvus = milvus
        self._lock = threading.Lock()
        self._vectors: dict[tuple[str, int], _Entry[VectorIndex]] = {}
        self._lexical: dict[str, _Entry[TantivyIndex]] = {}
        # One index at a time is organised anew; the others wait.
        self._maintenance = threading.Lock()
        self._maintained: set[int] = set()

    def vectors(self, vector_store: VectorStore, applied: Applied | None = None, *, head: Cursor | None = None) -> VectorIndex:
        """Return the vector index after it has caught up with the log, telling `applied` of the advance.

        An index that is known to agree with `head`, which the caller has read, is not compared with the log again.

        Raises:
            IndexUnavailableError: It is in Milvus, which cannot be reached.
        """
        key = (vector_store.id, vector_store.embedding_id)
        with self._lock:
            entry = self._vectors.setdefault(key, _Entry())
        index = self._caught_up(vector_store, entry, self._open_vectors, head, applied)
        if isinstance(index, FaissIndex):
            self._maintain_later(index)
        return index

    def lexical(self, vector_store: VectorStore, *, head: Cursor | None = None) -> TantivyIndex:
        """Return the lexical index after it has caught up with the log; `head` as for `vectors`."""
        with self._lock:
            entry = self._lexical.setdefault(vector_store.id, _Entry())
        return self._caught_up(vector_store, entry, lambda store: TantivyIndex(self._folder / store.id / "bm25"), head)

    def refresh(self, vector_store: VectorStore) -> None:
        """Catch up and make the snapshots durable."""
        self.vectors(vector_store).save()
        self.lexical(vector_store).save()

    def save(self) -> None:
        """Make what was applied so far durable, so that the next start replays little."""
        with self._lock:
            entries = list(self._vectors.values())
        for entry in entries:
            if entry.index is not None:
                entry.index.save()

    def fault(self) -> str | None:
        """Return why vectors cannot be searched now, None if they can."""
        return None if self._milvus is None else self._milvus.fault()

    def forget(self, vector_store_id: str) -> None:
        """Remove the indexes of a vector store that was deleted.

        Raises:
            StoreError: The folder cannot be written.
            IndexUnavailableError: They are in Milvus, which cannot be reached.
        """
        with self._lock:
            self._lexical.pop(vector_store_id, None)
        self._remove(vector_store_id, self._folder / vector_store_id)

    def forget_vectors(self, vector_store: VectorStore) -> None:
        """Remove the vector indexes of a vector store, where these are kept; the next that asks for one builds it again.

        Raises:
            StoreError: The folder cannot be written.
            IndexUnavailableError: They are in Milvus, which cannot be reached.
        """
        folders = [] if self._milvus is not None else (self._folder / vector_store.id).glob("vectors-*")
        self._remove(vector_store.id, *folders)

    def _remove(self, vector_store_id: str, *folders: Path) -> None:
        with self._lock:
            for key in [key for key in self._vectors if key[0] == vector_store_id]:
                del self._vectors[key]
        for folder in folders:
            with store_errors("indexes", folder):
                if folder.exists():
                    shutil.rmtree(folder)
        if self._milvus is not None:
            with self._milvus.client() as client:
                drop_generations(client, f"rag_{vector_store_id}")

    def _open_vectors(self, vector_store: VectorStore) -> VectorIndex:
        if self._milvus is None:
            return self._open_in_faiss(vector_store)
        return MilvusIndex(
            self._milvus,
            f"rag_{vector_store.id}_{vector_store.embedding_id}",
            dimension=vector_store.dimension,
            living=partial(self._log.living, vector_store),
        )

    def _open_in_faiss(self, vector_store: VectorStore) -> FaissIndex:
        def replay(after: Cursor) -> Iterator[LogPage]:
            while True:
                page = self._log.read(vector_store, after, LOG_PAGE_CHUNKS)
                yield page
                if page.cursor == after:
                    return
                after = page.cursor

        return FaissIndex(
            self._folder / vector_store.id / f"vectors-{vector_store.embedding_id}",
            dimension=vector_store.dimension,
            kind=self._kind,
            gpu=self._gpu,
            replay=replay,
        )

    def _caught_up(
        self,
        store: VectorStore,
        entry: _Entry[Index],
        open_index: Callable[[VectorStore], Index],
        head: Cursor | None,
        applied: Applied | None = None,
    ) -> Index:
        """Apply what is new. Whoever asks meanwhile waits, and then finds that little or nothing is left to apply."""
        index = entry.index
        if index is not None and not _is_gone(index):
            known = self._log.head(store) if head is None else head
            if entry.agreed == (index.cursor, known):
                return index
        with entry.lock:
            if entry.index is None or _is_gone(entry.index):
                entry.index = open_index(store)
            self._follow(store, entry, entry.index, applied)
            return entry.index

    def _follow(self, store: VectorStore, entry: _Entry[Index], index: Index, applied: Applied | None) -> None:
        while True:
            head = self._log.head(store)
            if _is_ahead(index, head):
                log.warning("index is ahead of the store and will be rebuilt", store=store.id, folder=str(self._folder))
                index.reset()
            elif index.cursor.chunk_id >= head.chunk_id and index.cursor.deletion_id >= head.deletion_id:
                entry.agreed = (index.cursor, head)
                return
            else:
                page = self._log.read(store, index.cursor, LOG_PAGE_CHUNKS)
                if page.cursor == index.cursor:
                    # The newest chunk has no vector of this model: there is nothing more to read.
                    return
                index.apply(page)
                if applied is not None:
                    applied(len(page.added))

    def _maintain_later(self, index: FaissIndex) -> None:
        with self._lock:
            if id(index) in self._maintained or not index.needs_maintenance:
                return
            self._maintained.add(id(index))
        # Not a pool's thread: a pool would have the process wait at its end for work that stops at the main thread's end.
        threading.Thread(target=self._maintain, args=(index,), name="index-maintenance").start()

    def _maintain(self, index: FaissIndex) -> None:
        try:
            with self._maintenance:
                index.maintain()
        except Exception as error:  # noqa: BLE001 - a search goes on with the index as it is; the reason must not be lost
            log.warning("index could not be organised anew", reason=f"{type(error).__name__}: {error}")
        finally:
            with self._lock:
                self._maintained.discard(id(index))


def _is_ahead(index: VectorIndex | TantivyIndex, head: Cursor) -> bool:
    """Whether the index knows what the store does not: it was restored from a backup, or it lost its last writes.

    Where the newest chunk was deleted, the cursor alone is beyond the newest chunk as well.
    """
    cursor = index.cursor
    if cursor.deletion_id != head.deletion_id:
        return cursor.deletion_id > head.deletion_id
    return cursor.chunk_id > head.chunk_id and index.newest > head.chunk_id


def _is_gone(index: VectorIndex | TantivyIndex) -> bool:
    return isinstance(index, MilvusIndex) and index.is_gone
