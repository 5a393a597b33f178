"""The vector index of one vector store: searched without locks, extended cheaply, reorganised beside the running searches."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from indexers.faiss_gpu import GpuCopy, GpuMode
from indexers.faiss_segment import Kind, Near
from indexers.vector_maintenance import InterruptedMaintenanceError, KindChoice, Limits, Replay, plan, reorganised
from indexers.vector_snapshot import VectorSnapshot
from indexers.vector_state import State, among, empty_state
from rag_server.errors import DimensionMismatchError
from rag_server.types import ChunkIds, Cursor, Hit, LogPage, Vectors


class FaissIndex:
    """Inner-product search, exact or nearly so, by size. Every method may be called from any thread."""

    def __init__(
        self,
        snapshot: Path,
        *,
        dimension: int,
        kind: KindChoice = "auto",
        replay: Replay | None = None,
        limits: Limits | None = None,
        gpu: GpuMode = "replicated",
    ) -> None:
        """Load the snapshot if it is whole; otherwise start empty, so that the log is replayed.

        Args:
            snapshot: The folder that the index is saved in.
            dimension: The number of columns of every vector.
            kind: How the vectors are organised; "auto" goes by their number.
            replay: Reads the log after a cursor again. A kind that keeps no exact vectors is reorganised only with it.
            limits: The sizes at which the index is organised anew.
            gpu: Whether GPUs, where there are any, each hold all vectors or a part of them.
        """
        self._dimension = dimension
        self._choice = kind
        self._replay = replay
        self._limits = limits or Limits()
        self._gpu_mode: GpuMode = gpu
        self._snapshot = VectorSnapshot(snapshot, dimension=dimension)
        # Guards replacing the state; searches only read it.
        self._lock = threading.Lock()
        self._saving = threading.Lock()
        self._maintaining = threading.Lock()
        self._generation = 0
        self._state = self._saved = self._snapshot.load() or empty_state(dimension)
        self._gpu_copy = GpuCopy.of(self._state.main, gpu)

    def __len__(self) -> int:
        """Return the number of vectors that can be found."""
        return self._state.num_living

    @property
    def cursor(self) -> Cursor:
        """How far the log has been applied."""
        return self._state.cursor

    @property
    def newest(self) -> int:
        """The greatest chunk id that can be found, 0 if there is none."""
        return self._state.newest

    @property
    def kind(self) -> Kind:
        """How most of the vectors are organised now."""
        return self._state.main.kind

    @property
    def is_on_gpus(self) -> bool:
        """Whether searches without a filter run on GPUs."""
        return self._gpu_copy is not None

    def describe(self) -> str:
        """Return one sentence on what is in use and why."""
        rows = f"{len(self):,} vectors of {self._dimension} dimensions"
        if self._choice not in ("auto", self.kind):
            return f"{self.kind}, {rows}: {self._choice} begins at {self._limits.approximate_rows:,}"
        why = "it suits this number" if self._choice == "auto" else "it is configured"
        return f"{self.kind}, {rows}: {why}"

    def apply(self, page: LogPage) -> None:
        """Add and remove what the page says; a page that was applied before changes nothing.

        Raises:
            DimensionMismatchError: A vector has another length than the index is made for; nothing was applied.
        """
        with self._lock:
            state = self._state
            cursor = Cursor(
                max(state.cursor.chunk_id, page.cursor.chunk_id), max(state.cursor.deletion_id, page.cursor.deletion_id)
            )
            if cursor == state.cursor:
                return
            added = [chunk for chunk in page.added if chunk.id > state.cursor.chunk_id]
            tail, main_dead = state.tail, state.main_dead
            if added:
                for chunk in added:
                    self._check(chunk.vector)
                tail = tail.appended(np.array([chunk.id for chunk in added]), np.stack([chunk.vector for chunk in added]))
            if page.deleted_chunk_ids:
                deleted = np.unique(np.array(page.deleted_chunk_ids, dtype=np.int64))
                tail = tail.without(deleted)
                main_dead = main_dead | among(state.main.ids, deleted)
            self._state = State(state.main, main_dead, tail, cursor)

    def search(self, vector: Vectors, k: int, *, allowed: ChunkIds | None = None) -> list[Hit]:
        """Return the `k` nearest chunks (of `allowed`), nearest first, fewer only if there are fewer.

        Raises:
            DimensionMismatchError: `vector` has another length than the index is made for.
        """
        return self.search_each([vector], k, allowed=allowed)[0]

    def search_each(self, vectors: Sequence[Vectors], k: int, *, allowed: ChunkIds | None = None) -> list[list[Hit]]:
        """Return what `search` finds for each; together each takes a tenth of the time, as rows are read once for all.

        Raises:
            DimensionMismatchError: A vector has another length than the index is made for.
        """
        for vector in vectors:
            self._check(vector)
        queries = np.ascontiguousarray(vectors, dtype=np.float32).reshape(len(vectors), -1)
        state, gpu_copy = self._state, self._gpu_copy
        in_main = None
        if gpu_copy is not None and allowed is None:
            in_main = gpu_copy.search(state.main, queries, k, state.main_dead)
        in_main = in_main or state.main.search(queries, k, state.main_mask(allowed))
        return [_best(near, state.tail.search(query, k, allowed), k) for query, near in zip(queries, in_main, strict=True)]

    def save(self) -> None:
        """Replace the snapshot; it is on the disk when this returns. Nothing new means nothing to do.

        Raises:
            StoreError: The disk is full or the folder cannot be written; the snapshot before is still there.
        """
        with self._saving:
            state = self._state
            if state is not self._saved:
                self._snapshot.save(state)
                self._saved = state

    def reset(self) -> None:
        """Forget everything, so that the log is replayed from its beginning."""
        with self._lock:
            self._generation += 1
            self._state, self._gpu_copy = empty_state(self._dimension), None

    @property
    def needs_maintenance(self) -> bool:
        """Whether `maintain` has something to do."""
        return self._plan(self._state) is not None

    def maintain(self) -> bool:
        """Organise the vectors anew where that is due, beside the running searches; return whether anything changed.

        Takes up to minutes. It is one slice of work from ending when the main thread of the process has ended.
        """
        with self._maintaining:
            generation, state = self._generation, self._state
            kind = self._plan(state)
            if kind is None:
                return False
            try:
                main = reorganised(state, kind, self._limits, self._replay, self._dimension)
            except InterruptedMaintenanceError:
                return False
            gpu_copy = GpuCopy.of(main, self._gpu_mode)
            with self._lock:
                if self._generation != generation:
                    return False
                self._state = self._state.with_main(main, covered=state.cursor.chunk_id)
                self._gpu_copy = gpu_copy
            return True

    def _plan(self, state: State) -> Kind | None:
        can_replay = self._replay is not None
        return plan(state, self._choice, self._limits, dimension=self._dimension, can_replay=can_replay)

    def _check(self, vector: Vectors) -> None:
        if vector.size != self._dimension:
            raise DimensionMismatchError(
                f"a vector has {vector.size} numbers where the index holds {self._dimension}: set the embedding model that "
                "the collection was indexed with, or index the collection again with the new one"
            )


def _best(in_main: Near, in_tail: Near, k: int) -> list[Hit]:
    ids, scores = np.concatenate([in_main[0], in_tail[0]]), np.concatenate([in_main[1], in_tail[1]])
    best = np.lexsort((ids, -scores))[:k]
    return list(map(Hit, ids[best].tolist(), scores[best].tolist()))
