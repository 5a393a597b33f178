"""What a vector index holds at one moment: a large FAISS segment, the newest vectors in plain arrays, and what is deleted."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from indexers.faiss_segment import Batch, Mask, Segment
from indexers.faiss_segment import empty as empty_segment
from rag_server.types import ChunkIds, Cursor, Vectors

MIN_ROWS = 64
SLICE_ROWS = 4096


@dataclass(frozen=True)
class Tail:
    """Rows with their ascending chunk ids. Appending leaves the rows of the tail before it where they are."""

    ids: ChunkIds
    vectors: Vectors
    dead: Mask
    # Longer arrays that `ids` and `vectors` are the beginning of; only the newest tail may append.
    _room: tuple[ChunkIds, Vectors] = field(repr=False)

    def appended(self, ids: ChunkIds, vectors: Vectors) -> "Tail":
        """Return the tail with more rows."""
        before, after = len(self.ids), len(self.ids) + len(ids)
        room = self._room
        if after > len(room[0]):
            room = _room(max(after, 2 * before, MIN_ROWS), self.vectors.shape[1])
            room[0][:before], room[1][:before] = self.ids, self.vectors
        room[0][before:after], room[1][before:after] = ids, vectors
        dead = np.concatenate([self.dead, np.zeros(len(ids), np.bool_)])
        return Tail(room[0][:after], room[1][:after], dead, room)

    def without(self, ids: ChunkIds) -> "Tail":
        """Return the tail with these rows marked as deleted."""
        return Tail(self.ids, self.vectors, self.dead | among(self.ids, ids), self._room)

    def after(self, chunk_id: int) -> "Tail":
        """Return a tail of the living rows with greater ids."""
        kept = (self.ids > chunk_id) & ~self.dead
        return empty_tail(self.vectors.shape[1]).appended(self.ids[kept], self.vectors[kept])

    def living(self) -> Iterator[Batch]:
        """Yield the rows that are not deleted, in slices."""
        for start in range(0, len(self.ids), SLICE_ROWS):
            alive = ~self.dead[start : start + SLICE_ROWS]
            if alive.any():
                yield self.ids[start : start + SLICE_ROWS][alive], self.vectors[start : start + SLICE_ROWS][alive]

    def search(self, vector: Vectors, k: int, allowed: ChunkIds | None) -> tuple[ChunkIds, Vectors]:
        """Return ids and scores of the `k` nearest living rows (of `allowed`), in no order."""
        alive = ~self.dead if allowed is None else ~self.dead & among(self.ids, allowed)
        ids = self.ids[alive]
        # Rows that are picked out are copied first, which pays only if they are few.
        few = 4 * len(ids) < len(self.ids)
        # Not `@`: its library spreads the work over all cores, which waits for ages where they are busy.
        scores: Vectors = np.vecdot(self.vectors[alive], vector) if few else np.vecdot(self.vectors, vector)[alive]
        if len(ids) > k:
            best = np.argpartition(scores, len(ids) - k)[len(ids) - k :]
            return ids[best], scores[best]
        return ids, scores


@dataclass(frozen=True)
class State:
    """One moment of an index. It is never changed but replaced, so that a search needs no lock to see a consistent one."""

    main: Segment
    main_dead: Mask
    tail: Tail
    cursor: Cursor

    @property
    def num_living(self) -> int:
        """The number of chunks that can be found."""
        return len(self.main) - self.num_dead_in_main + int(np.count_nonzero(~self.tail.dead))

    @property
    def num_dead_in_main(self) -> int:
        """The number of deleted rows that the segment still holds."""
        return int(np.count_nonzero(self.main_dead))

    @property
    def newest(self) -> int:
        """The greatest chunk id that is not deleted, 0 if there is none."""
        living = self.tail.ids[~self.tail.dead]
        living = living if len(living) else self.main.ids[~self.main_dead]
        return int(living[-1]) if len(living) else 0

    def main_mask(self, allowed: ChunkIds | None) -> Mask | None:
        """Return which rows of the segment may be found, None for all."""
        if allowed is not None:
            return among(self.main.ids, allowed) & ~self.main_dead
        return ~self.main_dead if self.main_dead.any() else None

    def with_main(self, main: Segment, *, covered: int) -> "State":
        """Return the state with another segment, with all chunks up to the id `covered` and perhaps deleted ones."""
        alive = among(main.ids, self.main.ids[~self.main_dead]) | among(main.ids, self.tail.ids[~self.tail.dead])
        return State(main, ~alive, self.tail.after(covered), self.cursor)


def empty_state(dimension: int) -> State:
    """Return the state of an index that has followed nothing yet."""
    return State(empty_segment(dimension), np.zeros(0, np.bool_), empty_tail(dimension), Cursor())


def empty_tail(dimension: int) -> Tail:
    """Return a tail without rows."""
    ids, vectors = _room(0, dimension)
    return Tail(ids, vectors, np.zeros(0, np.bool_), (ids, vectors))


def among(ids: ChunkIds, wanted: ChunkIds) -> Mask:
    """Return which of `ids` are among `wanted`; both ascend."""
    mask = np.zeros(len(ids), np.bool_)
    if len(ids) == 0 or len(wanted) == 0:
        return mask
    if len(wanted) < len(ids):
        positions = np.searchsorted(ids, wanted)
        positions[positions == len(ids)] = 0
        mask[positions[ids[positions] == wanted]] = True
        return mask
    positions = np.searchsorted(wanted, ids)
    positions[positions == len(wanted)] = 0
    mask[:] = wanted[positions] == ids
    return mask


def _room(rows: int, dimension: int) -> tuple[ChunkIds, Vectors]:
    return np.empty(rows, np.int64), np.empty((rows, dimension), np.float32)
