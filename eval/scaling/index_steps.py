"""Builds one vector index, and measures it in another process, which holds nothing else.

python -m eval.scaling.index_steps FOLDER KIND ROWS build     prints JSON: build_core_s, disk_bytes
python -m eval.scaling.index_steps FOLDER KIND ROWS search    prints JSON: what a search takes and finds

The folder holds vectors.npy and queries.npy.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import faiss
import numpy as np
import numpy.typing as npt
import psutil

from eval.scaling.constants import PER_CENT, TOP, MeasuredKind
from indexers import faiss_segment
from indexers.faiss_segment import LISTS_PER_ROOT, TRAINING_ROWS_PER_LIST, Batch, Kind, Segment
from rag_server.types import Vectors

BATCH_ROWS = 10_000
WARM_UP = 5
# A quarter of a byte per number.
NUMBERS_PER_CODE = 4


def build_step(folder: Path, kind: MeasuredKind, rows: int) -> dict[str, float]:
    """Build the index with one thread and save it; return the seconds of its core and its bytes on the disk."""
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")[:rows]
    started = time.process_time()
    segment = build(kind, vectors)
    took = time.process_time() - started
    path = _path(folder, kind, rows)
    with path.open("wb") as file:
        segment.save(file.write)
    return {"build_core_s": took, "disk_bytes": path.stat().st_size + segment.ids.nbytes}


def build(kind: MeasuredKind, vectors: Vectors) -> Segment:
    """Return the index as the server builds it; ids are given from 1 in the order of the rows."""

    def batches() -> Iterator[Batch]:
        for start in range(0, len(vectors), BATCH_ROWS):
            rows = np.asarray(vectors[start : start + BATCH_ROWS])
            yield np.arange(start + 1, start + 1 + len(rows)), rows

    rows, dimension = vectors.shape
    if kind != "ivf_pq":
        return faiss_segment.build(kind, dimension, batches, rows)
    # The server has no such kind; it is searched as its other lists are.
    lists = max(1, round(LISTS_PER_ROOT * rows**0.5))
    # "np": without FAISS's polysemous training, which takes minutes and changes nothing that is used here.
    description = f"IVF{lists},PQ{dimension // NUMBERS_PER_CODE}np"
    index: Any = faiss.index_factory(dimension, description, faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1
    # FAISS warns on the console of few rows per code; small sizes are measured on purpose.
    index.pq.cp.min_points_per_centroid = 1
    # A quarter of FAISS's own: training is most of the time here.
    index.pq.cp.max_points_per_centroid = 64
    step = max(1, rows // (TRAINING_ROWS_PER_LIST * lists))
    index.train(np.ascontiguousarray(vectors[::step]))
    for _, batch in batches():
        index.add(batch)
    return Segment("ivf", index, np.arange(1, rows + 1))


def search_step(folder: Path, kind: MeasuredKind, rows: int, candidates: int) -> dict[str, Any]:
    """Load the index and search it with one thread; return its memory, the times, and what was found of the nearest."""
    queries = np.load(folder / "queries.npy")
    nearest = nearest_rows(np.load(folder / "vectors.npy", mmap_mode="r")[:rows], queries)
    process = psutil.Process()
    before = process.memory_info().rss
    # A kind that the server does not have is searched as lists of vectors are.
    searched_as: Kind = "ivf" if kind == "ivf_pq" else kind
    segment = faiss_segment.load(searched_as, _path(folder, kind, rows), np.arange(1, rows + 1))
    for query in queries[:WARM_UP]:
        segment.search(query[np.newaxis], candidates)
    resident = process.memory_info().rss - before
    core_ms, wall_ms = [], 0.0
    found = np.zeros(TOP)
    for query, wanted in zip(queries, nearest, strict=True):
        # The core's time: what a search waits for a core is simulated, and is another matter on another machine.
        started, core_started = time.perf_counter(), time.thread_time()
        ids, _ = segment.search(query[np.newaxis], candidates)[0]
        core_ms.append((time.thread_time() - core_started) * 1000)
        wall_ms += (time.perf_counter() - started) * 1000
        found += np.isin(wanted, ids)
    return {
        "resident_bytes": resident,
        "latency_ms": np.percentile(core_ms, np.arange(PER_CENT)).tolist(),
        "found_by_rank": (found / len(queries)).tolist(),
        "cpu_ms": sum(core_ms),
        "wall_ms": wall_ms,
    }


def nearest_rows(vectors: Vectors, queries: Vectors) -> npt.NDArray[np.int64]:
    """Return the ids of the ten vectors nearest to each query, nearest first, from all of them."""
    best = np.empty((len(queries), 0))
    ids = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(vectors), BATCH_ROWS):
        scores = queries @ vectors[start : start + BATCH_ROWS].T
        best = np.concatenate([best, scores], axis=1)
        ids = np.concatenate([ids, np.broadcast_to(np.arange(start + 1, start + 1 + scores.shape[1]), scores.shape)], axis=1)
        order = np.argsort(-best, axis=1, kind="stable")[:, :TOP]
        best, ids = np.take_along_axis(best, order, axis=1), np.take_along_axis(ids, order, axis=1)
    return ids


def _path(folder: Path, kind: str, rows: int) -> Path:
    return folder / f"{kind}-{rows}.faiss"


def main(arguments: Sequence[str]) -> None:
    """Run the command line."""
    folder, kind, rows, step, candidates = arguments
    kinds: dict[str, MeasuredKind] = {kind: kind for kind in get_args(MeasuredKind)}
    if step == "build":
        print(json.dumps(build_step(Path(folder), kinds[kind], int(rows))))
    else:
        print(json.dumps(search_step(Path(folder), kinds[kind], int(rows), int(candidates))))


if __name__ == "__main__":
    main(sys.argv[1:])
