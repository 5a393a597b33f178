"""Searches vector indexes on GPUs, with filters and deleted chunks, and compares with a search of all vectors by numpy."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import numpy as np

from eval.bench.corpus import Corpus
from eval.gpu_check.running import CheckFailedError
from indexers.faiss_gpu import GpuMode
from indexers.faiss_index import FaissIndex
from indexers.faiss_segment import Kind
from indexers.vector_maintenance import Limits
from rag_server.types import ChunkIds, Cursor, LoggedChunk, LogPage, Vectors

DIMENSION = 384
TOP = 10
NUM_QUERIES = 100
# Of the nearest, each kind must find so many on the mean; what is exact finds all but for ties in the last digit.
LEAST_RECALL: Mapping[Kind, float] = {"flat": 0.999, "hnsw": 0.97, "ivf": 0.9, "ivf_sq8": 0.9, "ivf_rabitq": 0.8}
# Deleted: every so manieth chunk, and those nearest to the first queries.
EVERY_DELETED = 7
EVERY_ALLOWED = 3
KINDS: tuple[Kind, ...] = get_args(Kind)
# Searched on the CPU, as it should say.
WITHOUT_GPU_FORM: tuple[Kind, ...] = ("ivf_rabitq",)


def check_kind(kind: Kind, mode: GpuMode, *, rows: int) -> str:
    """Search an index of that kind; return how much of the nearest it finds, and how fast.

    Raises:
        CheckFailedError: It finds what is deleted or filtered out, or too little.
    """
    corpus = Corpus(DIMENSION)
    vectors, queries = corpus.vectors(rows), corpus.vectors(NUM_QUERIES)
    with tempfile.TemporaryDirectory() as folder:
        index = _index(Path(folder), kind, mode, vectors)
        alive = _delete(index, vectors, queries)
        allowed = np.arange(1, rows + 1, EVERY_ALLOWED)
        plain, per_s = _recall(index, vectors, queries, alive, None)
        filtered, _ = _recall(index, vectors, queries, np.intersect1d(alive, allowed), allowed)
    if min(plain, filtered) < LEAST_RECALL[kind]:
        raise CheckFailedError(f"recall@{TOP} {plain:.3f}, filtered {filtered:.3f}: at least {LEAST_RECALL[kind]} is due")
    where = "" if index.is_on_gpus else " on the CPU"
    return f"recall@{TOP} {plain:.3f}, filtered {filtered:.3f}; {per_s:,.0f} searches/s{where}"


def _index(folder: Path, kind: Kind, mode: GpuMode, vectors: Vectors) -> FaissIndex:
    limits = Limits(approximate_rows=len(vectors) // 2, tail_rows=len(vectors) // 2)
    index = FaissIndex(folder, dimension=DIMENSION, kind=kind, gpu=mode, limits=limits)
    index.apply(_page(vectors, ()))
    index.maintain()
    if index.kind != kind:
        raise CheckFailedError(f"the index is {index.kind}")
    if not index.is_on_gpus and kind not in WITHOUT_GPU_FORM:
        raise CheckFailedError("FAISS does not copy it to the GPU")
    return index


def _delete(index: FaissIndex, vectors: Vectors, queries: Vectors) -> ChunkIds:
    """Delete some chunks, the nearest among them; return the ids of the others."""
    nearest = np.argsort(-(queries[:TOP] @ vectors.T), axis=1)[:, : TOP // 2] + 1
    deleted = np.union1d(np.arange(1, len(vectors) + 1, EVERY_DELETED), nearest)
    index.apply(_page(vectors[:0], tuple(deleted.tolist()), after=len(vectors)))
    return np.setdiff1d(np.arange(1, len(vectors) + 1), deleted)


def _recall(
    index: FaissIndex, vectors: Vectors, queries: Vectors, living: ChunkIds, allowed: ChunkIds | None
) -> tuple[float, float]:
    """Return the mean recall, and the searches per second; `living` are the ids that may be found."""
    found_share, took_s = [], 0.0
    for query in queries:
        scores = vectors[living - 1] @ query
        nearest = set(living[np.argsort(-scores)[:TOP]].tolist())
        started = time.perf_counter()
        hits = index.search(query, TOP, allowed=allowed)
        took_s += time.perf_counter() - started
        found = {hit.chunk_id for hit in hits}
        if not found <= set(living.tolist()):
            raise CheckFailedError("it finds chunks that are deleted or filtered out")
        if len(hits) != TOP:
            raise CheckFailedError(f"it finds {len(hits)} chunks instead of {TOP}")
        found_share.append(len(found & nearest) / TOP)
    return float(np.mean(found_share)), len(queries) / took_s


def _page(vectors: Vectors, deleted: tuple[int, ...], *, after: int = 0) -> LogPage:
    chunks = tuple(LoggedChunk(after + row, "", "", vector) for row, vector in enumerate(vectors, start=1))
    return LogPage(chunks, deleted, Cursor(after + len(chunks), len(deleted)))
