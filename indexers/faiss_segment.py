"""A FAISS index with the chunk ids of its rows: built once, searched from many threads, extended only by making a new one."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
import numpy.typing as npt

from rag_server.types import ChunkIds, Vectors

Kind = Literal["flat", "hnsw", "ivf", "ivf_sq8", "ivf_rabitq"]
# Chunk ids, ascending, and one row for each.
Batch = tuple[ChunkIds, Vectors]
Batches = Callable[[], Iterator[Batch]]
Mask = npt.NDArray[np.bool_]
# The ids and scores of what is near to a vector, nearest first.
Near = tuple[ChunkIds, Vectors]

FACTORY: dict[Kind, str] = {
    "flat": "Flat",
    "hnsw": "HNSW32,Flat",
    "ivf": "IVF{lists},Flat",
    "ivf_sq8": "IVF{lists},SQ8",
    # At 100,000 clustered rows it finds more than product quantisation in the same memory and trains 40 times as fast.
    "ivf_rabitq": "IVF{lists},RaBitQ6",
}
EF_CONSTRUCTION = 80
EF_SEARCH = 96
LISTS_PER_ROOT = 2.0
TRAINING_ROWS_PER_LIST = 50
PROBED_SHARE = 1 / 16
MIN_PROBES = 16
PROBED_ROWS_PER_HIT = 20
# A scan of so few selected rows takes about a millisecond, and a graph or list search would have to widen to find them.
SCANNED_ROWS = 20_000
SCANNED_SHARE = 0.1
SLICE_ROWS = 4096
WRITE_BYTES = 1 << 20


class Segment:
    """Rows that are never changed. Each search runs in its caller's thread alone, and so any number of them in parallel."""

    def __init__(self, kind: Kind, index: Any, ids: ChunkIds) -> None:
        """Wrap a FAISS index whose row i is chunk `ids[i]`."""
        self.kind = kind
        self.ids = ids
        self._index = index

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.ids)

    @property
    def searched_index(self) -> Any:
        """The index that a GPU can copy: a graph has no GPU form, and its rows are searched one by one there."""
        return _storage(self._index) if self.kind == "hnsw" else self._index

    def search(self, vectors: Vectors, k: int, mask: Mask | None = None) -> list[Near]:
        """Return for each of `vectors` the `k` nearest rows that `mask` selects, nearest first; fewer if it selects fewer."""
        selected = len(self) if mask is None else int(np.count_nonzero(mask))
        wanted = min(k, selected)
        if wanted == 0:
            return [(np.empty(0, np.int64), np.empty(0, np.float32))] * len(vectors)
        # FAISS would spread them over all cores, which slows down those that run at the same time.
        faiss.omp_set_num_threads(1)
        selector = None if mask is None else faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        few = mask is not None and (selected <= SCANNED_ROWS or selected < SCANNED_SHARE * len(self))
        found = self._nearest(vectors, wanted, selector, None if few else selected / len(self))
        return [
            near if len(near[0]) == wanted else self._nearest(vectors[row : row + 1], wanted, selector, None)[0]
            for row, near in enumerate(found)
        ]

    def _nearest(self, vectors: Vectors, k: int, selector: Any, share: float | None) -> list[Near]:
        """Search the index, more widely the fewer rows are selected, or scan all selected rows if `share` is None."""
        index = self._index
        if self.kind == "flat":
            parameters = faiss.SearchParameters(sel=selector)
        elif self.kind == "hnsw" and share is None:
            index, parameters = _storage(index), faiss.SearchParameters(sel=selector)
        elif self.kind == "hnsw":
            parameters = faiss.SearchParametersHNSW(sel=selector, efSearch=round(max(EF_SEARCH, 2 * k) / (share or 1)))
        else:
            probed_share = max(PROBED_SHARE, PROBED_ROWS_PER_HIT * k / len(self))
            probes = index.nlist if share is None else round(max(MIN_PROBES, probed_share * index.nlist) / share)
            parameters = faiss.SearchParametersIVF(sel=selector, nprobe=min(probes, index.nlist))
        scores, positions = index.search(vectors, k, params=parameters)
        return [(self.ids[near[near >= 0]], score[near >= 0]) for near, score in zip(positions, scores, strict=True)]

    def outgrown_by(self, rows: int) -> bool:
        """Whether so many rows need far more lists than there are."""
        return self.kind not in ("flat", "hnsw") and LISTS_PER_ROOT * rows**0.5 > 2 * self._index.nlist

    def exact_rows(self) -> Batches | None:
        """Return where the rows can be read again as they were added, or None if the kind keeps codes only."""
        if self.kind not in ("flat", "hnsw"):
            return None
        return lambda: ((self.ids[start:end], rows) for start, end, rows in _slices(_storage(self._index)))

    def extended(self, batches: Batches) -> "Segment":
        """Return a segment with more rows, whose ids are greater; this one stays as it is."""
        _leave_room_for_searches()
        added = sum(len(ids) for ids, _ in batches())
        if self.kind == "flat":
            index = _empty_like(self._index)
            _copy_rows(self._index, index, len(self) + added)
        elif self.kind == "hnsw":
            index = _empty_like(self._index)
            index.hnsw = self._index.hnsw
            _copy_rows(_storage(self._index), _storage(index), len(self) + added)
            index.ntotal = self._index.ntotal
        else:
            index = faiss.clone_index(self._index)
        return Segment(self.kind, index, np.concatenate([self.ids, _add(index, batches)]))

    def save(self, write: Callable[[bytes], int]) -> None:
        """Write the index, without its ids, through `write`, which may raise."""
        faiss.write_index(self._index, faiss.PyCallbackIOWriter(write, WRITE_BYTES))


def load(kind: Kind, path: Path, ids: ChunkIds) -> Segment:
    """Read an index that `save` wrote; the caller has made sure that the file is whole."""
    index = faiss.read_index(str(path))
    if index.ntotal != len(ids):
        raise ValueError(f"it holds {index.ntotal} rows for {len(ids)} ids")
    return Segment(kind, index, ids)


def empty(dimension: int) -> Segment:
    """Return a segment without rows."""
    return Segment("flat", faiss.IndexFlatIP(dimension), np.empty(0, np.int64))


def build(kind: Kind, dimension: int, batches: Batches, total: int) -> Segment:
    """Return a segment of all rows of `batches`, which is read twice if the kind is trained; `total` is about their number."""
    _leave_room_for_searches()
    lists = max(1, round(LISTS_PER_ROOT * total**0.5))
    index = faiss.index_factory(dimension, FACTORY[kind].format(lists=lists), faiss.METRIC_INNER_PRODUCT)
    if kind == "hnsw":
        index.hnsw.efConstruction = EF_CONSTRUCTION
    if kind in ("flat", "hnsw"):
        _reserve(_storage(index), total)
    else:
        # FAISS warns on the console of few rows per list; that is what small stores have.
        index.cp.min_points_per_centroid = 1
        # A copy on a GPU takes it over; searches here set their own.
        index.nprobe = min(lists, max(MIN_PROBES, round(PROBED_SHARE * lists)))
        index.train(_sample(batches, total, TRAINING_ROWS_PER_LIST * lists))
    return Segment(kind, index, _add(index, batches))


def _leave_room_for_searches() -> None:
    """Build with half of the cores. OpenMP keeps this number per thread, so that no other thread is slowed down."""
    faiss.omp_set_num_threads(max(1, (os.cpu_count() or 2) // 2))


def _add(index: Any, batches: Batches) -> ChunkIds:
    all_ids = [np.empty(0, np.int64)]
    for ids, rows in batches():
        index.add(np.ascontiguousarray(rows, dtype=np.float32))
        all_ids.append(ids)
    return np.concatenate(all_ids)


def _sample(batches: Batches, total: int, size: int) -> Vectors:
    """Return up to `size` rows, spread evenly over all."""
    step = max(1, -(-total // size))
    first, taken = 0, []
    for ids, rows in batches():
        # A copy: a view would keep all rows in memory.
        taken.append(rows[-first % step :: step].copy())
        first += len(ids)
    return np.concatenate(taken)


def _storage(index: Any) -> Any:
    return faiss.downcast_index(index.storage) if isinstance(index, faiss.IndexHNSW) else index


def _empty_like(index: Any) -> Any:
    if isinstance(index, faiss.IndexHNSW):
        return faiss.IndexHNSWFlat(index.d, 32, faiss.METRIC_INNER_PRODUCT)
    return faiss.IndexFlatIP(index.d)


def _view(storage: Any) -> Vectors:
    rows: Vectors = faiss.rev_swig_ptr(storage.get_xb(), storage.ntotal * storage.d).reshape(storage.ntotal, storage.d)
    return rows


def _slices(storage: Any) -> Iterator[tuple[int, int, Vectors]]:
    for start in range(0, storage.ntotal, SLICE_ROWS):
        end = min(start + SLICE_ROWS, storage.ntotal)
        yield start, end, _view(storage)[start:end]


def _reserve(storage: Any, total: int) -> None:
    """Make room for `total` rows at once: growing by doubling would hold the rows up to three times."""
    storage.codes.resize(total * storage.code_size)
    storage.codes.resize(storage.ntotal * storage.code_size)


def _copy_rows(source: Any, target: Any, total: int) -> None:
    _reserve(target, total)
    for _, _, rows in _slices(source):
        target.add(rows)
