"""Measures the memory of one vector index in a process of its own, which does nothing else.

python -m eval.bench.index_memory SNAPSHOT DIMENSION STEP   prints bytes as JSON: before, resident, peak
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import psutil

from eval.bench.corpus import Corpus
from eval.bench.tools import Figure
from indexers.faiss_index import FaissIndex
from indexers.vector_maintenance import Limits
from indexers.vector_snapshot import VectorSnapshot
from rag_server.types import Cursor, LoggedChunk, LogPage

Step = Literal["open", "save", "extend"]
# So many new rows are organised anew.
TAIL_ROWS = 10_000


def measure_memory(snapshot: Path, dimension: int, num_chunks: int) -> list[Figure]:
    """Return the memory of the index relative to its raw vectors: while it is searched, saved, and extended."""
    raw = num_chunks * dimension * 4
    resident, _ = _child(snapshot, dimension, "open")
    _, saving = _child(snapshot, dimension, "save")
    _, extending = _child(snapshot, dimension, "extend")
    return [
        Figure("vector index, resident, relative to raw vectors", resident / raw, "x", 2.5),
        Figure("vector index, peak while saved, relative to raw vectors", saving / raw, "x", 2.5),
        Figure("vector index, peak while extended, relative to raw vectors", extending / raw, "x"),
    ]


def run_step(snapshot: Path, dimension: int, step: Step) -> tuple[int, int, int]:
    """Do one thing with the index; return the resident bytes of this process before it and then, and their peak."""
    held: object = None
    process = psutil.Process()
    before = int(process.memory_info().rss)
    if step == "open":
        index = FaissIndex(snapshot, dimension=dimension)
        index.search(Corpus(dimension).vectors(1)[0], 10)
        held = index
    elif step == "save":
        held = state = VectorSnapshot(snapshot, dimension=dimension).load()
        if state is not None:
            with tempfile.TemporaryDirectory() as folder:
                VectorSnapshot(Path(folder), dimension=dimension).save(state)
    elif step == "extend":
        held = _extended(snapshot, dimension)
    resident = int(process.memory_info().rss)
    del held
    return before, resident, peak_bytes()


def _extended(snapshot: Path, dimension: int) -> FaissIndex:
    loaded = FaissIndex(snapshot, dimension=dimension)
    number = min(TAIL_ROWS, len(loaded))
    index = FaissIndex(snapshot, dimension=dimension, limits=Limits(tail_rows=number - 1)) if number < TAIL_ROWS else loaded
    del loaded
    first = index.cursor.chunk_id + 1
    vectors = Corpus(dimension, seed=first).vectors(number + 1)
    chunks = tuple(LoggedChunk(first + row, "", "", vector) for row, vector in enumerate(vectors))
    index.apply(LogPage(chunks, (), Cursor(chunks[-1].id, index.cursor.deletion_id)))
    del chunks, vectors
    index.maintain()
    return index


def peak_bytes() -> int:
    """Return the most that was ever resident; what the parent had when it made this process does not count."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _child(snapshot: Path, dimension: int, step: Step) -> tuple[int, int]:
    """Return how many bytes the step adds, and adds at most."""
    command = [sys.executable, "-m", "eval.bench.index_memory", str(snapshot), str(dimension), step]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    before, resident, peak = json.loads(printed)
    return resident - before, peak - before


def main(arguments: Sequence[str]) -> None:
    """Run the command line."""
    snapshot, dimension, step = arguments
    steps: dict[str, Step] = {"open": "open", "save": "save", "extend": "extend"}
    print(json.dumps(run_step(Path(snapshot), int(dimension), steps[step])))


if __name__ == "__main__":
    main(sys.argv[1:])
