"""When and how the vectors of an index are organised anew; works beside the running searches on one state of it."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from indexers import faiss_segment
from indexers.faiss_segment import Batch, Batches, Kind, Segment
from indexers.vector_state import State, among
from rag_server.types import Cursor, LogPage

Replay = Callable[[Cursor], Iterator[LogPage]]
KindChoice = Kind | Literal["auto"]


class InterruptedMaintenanceError(Exception):
    """The process ends; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The sizes at which an index is organised anew; the defaults were measured with 384 dimensions on one core."""

    # Rows times dimension up to which a search of all rows takes less than about 3 ms.
    flat_numbers: int = 50_000 * 384
    # Above so many rows, a graph with its full vectors takes more memory than it is worth.
    hnsw_rows: int = 1_000_000
    # Below so many rows there is nothing to gain from, or to train, any other kind than flat.
    approximate_rows: int = 2_000
    # New rows are searched one by one, about 1 ms for so many.
    tail_rows: int = 10_000
    dead_share: float = 0.25


def suitable_kind(state: State, choice: KindChoice, limits: Limits, dimension: int) -> Kind:
    """Return how the vectors should be organised."""
    rows, now = state.num_living, state.main.kind
    if choice != "auto":
        return choice if rows >= limits.approximate_rows else "flat"
    # Half as many bring the smaller kind back: an index at a limit should not be rebuilt over and over.
    if rows > (limits.hnsw_rows // 2 if now == "ivf_sq8" else limits.hnsw_rows):
        return "ivf_sq8"
    if rows * dimension > (limits.flat_numbers // 2 if now in ("hnsw", "ivf_sq8") else limits.flat_numbers):
        return "hnsw"
    return "flat"


def plan(state: State, choice: KindChoice, limits: Limits, *, dimension: int, can_replay: bool) -> Kind | None:
    """Return the kind that the vectors should now be organised as anew, or None if they are in order."""
    kind = suitable_kind(state, choice, limits, dimension)
    tail_is_long = len(state.tail.ids) > limits.tail_rows
    if not can_replay and state.main.exact_rows() is None:
        # Their exact vectors are gone: deleted rows stay, masked, and the kind is kept.
        return state.main.kind if tail_is_long else None
    too_many_dead = state.num_dead_in_main > limits.dead_share * len(state.main)
    return kind if tail_is_long or too_many_dead or kind != state.main.kind else None


def reorganised(state: State, kind: Kind, limits: Limits, replay: Replay | None, dimension: int) -> Segment:
    """Return a segment of that kind with all chunks of `state`; takes up to minutes.

    Raises:
        InterruptedMaintenanceError: The process ends.
    """
    main = state.main
    exact = main.exact_rows()
    too_many_dead = state.num_dead_in_main > limits.dead_share * len(main)
    outgrown = main.outgrown_by(state.num_living) or too_many_dead
    if kind == main.kind and not (outgrown and (exact or replay)):
        return main.extended(_interruptible(state.tail.living))
    batches = _replayed(state, replay) if exact is None and replay is not None else _held(state)
    return faiss_segment.build(kind, dimension, _interruptible(batches), state.num_living)


def _held(state: State) -> Batches:
    """Return the living chunks from the exact vectors that the state itself holds."""

    def batches() -> Iterator[Batch]:
        exact = state.main.exact_rows()
        first = 0
        for ids, rows in exact() if exact else ():
            alive = ~state.main_dead[first : first + len(ids)]
            first += len(ids)
            if alive.any():
                yield ids[alive], rows[alive]
        yield from state.tail.living()

    return batches


def _replayed(state: State, replay: Replay) -> Batches:
    """Return the living chunks of the state from the log."""
    living = np.concatenate([state.main.ids[~state.main_dead], state.tail.ids[~state.tail.dead]])

    def batches() -> Iterator[Batch]:
        for page in replay(Cursor()):
            ids = np.array([chunk.id for chunk in page.added], dtype=np.int64)
            alive = among(ids, living)
            if alive.any():
                rows = [chunk.vector for chunk, lives in zip(page.added, alive, strict=True) if lives]
                yield ids[alive], np.stack(rows)
            if len(ids) == 0 or ids[-1] >= state.cursor.chunk_id:
                return

    return batches


def _interruptible(batches: Batches) -> Batches:
    def checked() -> Iterator[Batch]:
        for batch in batches():
            if not threading.main_thread().is_alive():
                raise InterruptedMaintenanceError
            yield batch

    return checked
