"""Searching on GPUs, on a stand-in for FAISS's GPU part that behaves as it does: no selectors, no more than 2,048 hits."""

from pathlib import Path
from types import SimpleNamespace

import faiss
import numpy as np
import pytest

from indexers import faiss_gpu
from indexers.faiss_index import FaissIndex
from indexers.vector_maintenance import Limits
from rag_server.types import Cursor, LoggedChunk, LogPage

DIMENSION = 8
VECTORS = np.random.default_rng(3).standard_normal((400, DIMENSION)).astype(np.float32)
LIMITS = Limits(approximate_rows=100, tail_rows=50)


class FakeGpuIndex:
    """Counts its searches and refuses what a GPU index refuses."""

    def __init__(self, index: faiss.Index) -> None:
        self.copy = faiss.clone_index(index)
        self.searches = 0

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        assert 0 < k <= faiss_gpu.MAX_K
        self.searches += 1
        return self.copy.search(queries, k)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[FakeGpuIndex]:
    """Let FAISS see two GPUs; the copies that were made on them."""
    made: list[FakeGpuIndex] = []

    def to_all_gpus(index: faiss.Index, co: SimpleNamespace) -> FakeGpuIndex:
        if isinstance(index, faiss.IndexHNSW):
            raise RuntimeError("This index type is not implemented on GPU.")
        made.append(FakeGpuIndex(index))
        made[-1].shard = co.shard
        return made[-1]

    fake = SimpleNamespace(
        get_num_gpus=lambda: 2,
        index_cpu_to_all_gpus=to_all_gpus,
        GpuMultipleClonerOptions=SimpleNamespace,
        StandardGpuResources=object,
        __version__="fake",
    )
    monkeypatch.setattr(faiss_gpu, "faiss", fake)
    return made


def page(ids: range, deleted: tuple[int, ...] = (), deletion_id: int = 0) -> LogPage:
    added = tuple(LoggedChunk(id_, "", "", VECTORS[id_]) for id_ in ids)
    return LogPage(added, deleted, Cursor(max(ids, default=0), deletion_id))


def nearest(ids: list[int], k: int) -> list[int]:
    return [ids[row] for row in np.argsort(-(VECTORS[ids] @ VECTORS[0]))[:k]]


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
@pytest.mark.parametrize("mode", ["replicated", "sharded"])
def test_deleted_and_new_chunks_are_right_on_gpus(tmp_path: Path, gpus: list[FakeGpuIndex], kind: str, mode: str) -> None:
    """GPUs search what is not filtered; deleted chunks are dropped and new ones found all the same."""
    index = FaissIndex(tmp_path, dimension=DIMENSION, kind=kind, gpu=mode, limits=LIMITS)
    index.apply(page(range(1, 300)))
    assert gpus == []
    index.maintain()
    best = nearest(list(range(1, 300)), 20)
    index.apply(page(range(300, 310), deleted=tuple(best), deletion_id=20))
    alive = [id_ for id_ in range(1, 310) if id_ not in best]

    assert [hit.chunk_id for hit in index.search(VECTORS[0], 10)] == nearest(alive, 10)
    assert (len(gpus), gpus[0].searches, gpus[0].shard) == (1, 1, mode == "sharded")


def test_filtered_and_large_searches_stay_on_the_cpu(tmp_path: Path, gpus: list[FakeGpuIndex], monkeypatch) -> None:
    """What a GPU cannot answer exactly is searched on the CPU."""
    index = FaissIndex(tmp_path, dimension=DIMENSION, limits=LIMITS)
    index.apply(page(range(1, 300)))
    index.maintain()
    allowed = np.arange(5, 250, 5)
    assert [hit.chunk_id for hit in index.search(VECTORS[0], 5, allowed=allowed)] == nearest(allowed.tolist(), 5)
    monkeypatch.setattr(faiss_gpu, "MAX_K", 20)
    assert [hit.chunk_id for hit in index.search(VECTORS[0], 21)] == nearest(list(range(1, 300)), 21)
    assert gpus[0].searches == 0


def test_reset_and_reopened_indexes_use_their_own_copy(tmp_path: Path, gpus: list[FakeGpuIndex]) -> None:
    """After a reset no old copy answers; a snapshot is copied to the GPUs when it is opened."""
    index = FaissIndex(tmp_path, dimension=DIMENSION, limits=LIMITS)
    index.apply(page(range(1, 300)))
    index.maintain()
    index.save()
    index.reset()
    assert index.search(VECTORS[0], 5) == []

    again = FaissIndex(tmp_path, dimension=DIMENSION, limits=LIMITS)
    assert [hit.chunk_id for hit in again.search(VECTORS[0], 5)] == nearest(list(range(1, 300)), 5)
    assert [gpu.searches for gpu in gpus] == [0, 1]


def test_vectors_that_do_not_fit_stay_on_the_cpu(tmp_path: Path, gpus: list[FakeGpuIndex], monkeypatch) -> None:
    """An error of the GPUs costs speed and nothing else."""

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(faiss_gpu.faiss, "index_cpu_to_all_gpus", full)
    index = FaissIndex(tmp_path, dimension=DIMENSION, limits=LIMITS)
    index.apply(page(range(1, 300)))
    assert index.maintain()
    assert [hit.chunk_id for hit in index.search(VECTORS[0], 5)] == nearest(list(range(1, 300)), 5)


def test_status_says_where_vectors_are_searched(gpus: list[FakeGpuIndex], monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence for each of: GPUs, none visible, a build without them."""
    assert "on 2 GPU(s)" in faiss_gpu.gpu_status()
    monkeypatch.setattr(faiss_gpu.faiss, "get_num_gpus", lambda: 0)
    assert "no GPU is visible to FAISS" in faiss_gpu.gpu_status()
    del faiss_gpu.faiss.StandardGpuResources
    assert "this build of FAISS has no GPU support" in faiss_gpu.gpu_status()


@pytest.mark.gpu
@pytest.mark.skipif(faiss_gpu.num_gpus() == 0, reason="FAISS sees no GPU")
@pytest.mark.parametrize("mode", ["replicated", "sharded"])
@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf", "ivf_sq8"])
def test_real_gpus(tmp_path: Path, kind: str, mode: str) -> None:
    """On real GPUs, deleted chunks are not found and the nearest are."""
    index = FaissIndex(tmp_path, dimension=DIMENSION, kind=kind, gpu=mode, limits=LIMITS)
    index.apply(page(range(1, 400)))
    index.maintain()
    best = nearest(list(range(1, 400)), 20)
    index.apply(LogPage((), tuple(best), Cursor(399, 20)))
    found = {hit.chunk_id for hit in index.search(VECTORS[0], 10)}
    expected = nearest([id_ for id_ in range(1, 400) if id_ not in best], 10)
    assert not found & set(best)
    assert len(found & set(expected)) >= (10 if kind in ("flat", "hnsw") else 7)
