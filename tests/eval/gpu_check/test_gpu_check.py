"""The check of what needs a GPU: its table, what is skipped, and what makes it fail."""

from types import SimpleNamespace

import faiss
import numpy as np
import pytest
import torch

from eval.gpu_check import __main__ as gpu_check
from eval.gpu_check import needs, vectors
from eval.gpu_check.running import Check, CheckFailedError, as_table, run_checks
from eval.report import as_text
from indexers import faiss_gpu
from indexers.faiss_index import FaissIndex

ROWS = 3000


def quiet(_: str) -> None:
    """Show nothing."""


class OnGpu:
    """A copy of an index that knows no selectors, as on a GPU."""

    def __init__(self, index: faiss.Index) -> None:
        self.copy = faiss.clone_index(index)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        return self.copy.search(queries, k)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let FAISS see a GPU."""
    fake = SimpleNamespace(
        get_num_gpus=lambda: 1,
        index_cpu_to_all_gpus=lambda index, co: OnGpu(index),
        GpuMultipleClonerOptions=SimpleNamespace,
    )
    monkeypatch.setattr(faiss_gpu, "faiss", fake)


def test_without_a_gpu_everything_is_skipped_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table names every check, and nothing has failed."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    status = gpu_check.main([])

    lines = capsys.readouterr().out.splitlines()[2:]
    assert status == 0
    assert [line.partition("  ")[0] for line in lines] == [
        "device",
        *(f"vectors: {kind}, replicated" for kind in ("flat", "hnsw", "ivf", "ivf_sq8", "ivf_rabitq")),
        "embedding in half precision",
        "training: answerer",
        "training: embedder",
        "training: ranker, compact format",
        "vLLM answers",
    ]
    assert all("skipped: no CUDA device" in line for line in lines)


def test_a_check_that_fails_makes_the_command_fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The others are run all the same."""

    def fail() -> str:
        raise CheckFailedError("recall 0.1")

    def crash() -> str:
        raise RuntimeError("CUDA error: out of memory")

    listed = [Check("bad", (), fail), Check("crashing", (), crash), Check("good", (), lambda: "1.0")]
    monkeypatch.setattr(gpu_check, "checks", lambda *_: listed)

    status = gpu_check.main([])

    table = capsys.readouterr().out
    assert status == 1
    assert [line.split()[:2] for line in table.splitlines()[2:]] == [
        ["bad", "failed"],
        ["crashing", "failed"],
        ["good", "passed"],
    ]
    assert "recall 0.1" in table
    assert "RuntimeError: CUDA error: out of memory" in table


def test_a_trainer_that_ends_the_process_fails_its_check_alone() -> None:
    """sys.exit in what is checked does not end the checks."""

    def leave() -> str:
        raise SystemExit(2)

    results = run_checks([Check("leaving", (), leave), Check("good", (), lambda: "1.0")], quiet)

    assert [result.outcome for result in results] == ["failed", "passed"]


def test_a_check_is_skipped_for_the_first_thing_that_is_missing() -> None:
    """Nothing of it is run, and the table tells the reason instead of a figure."""
    results = run_checks([Check("x", (lambda: None, lambda: "no wings", lambda: "no beak"), lambda: "flew")], quiet)

    assert [(result.outcome, result.detail) for result in results] == [("skipped", "no wings")]
    assert "skipped: no wings" in as_text(as_table(results))


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, gpu: None) -> None:
    """A GPU that FAISS sees is not missing; one that it does not see is."""
    assert needs.faiss_gpu() is None
    monkeypatch.setattr(faiss_gpu.faiss, "get_num_gpus", lambda: 0)
    assert "no GPU support" in str(needs.faiss_gpu())


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf_sq8"])
def test_indexes_that_search_as_they_should_pass(gpu: None, kind: str) -> None:
    """The figure tells the recall with and without a filter."""
    figure = vectors.check_kind(kind, "replicated", rows=ROWS)

    assert figure.startswith("recall@10 ")
    assert "on the CPU" not in figure


def test_an_index_that_finds_deleted_chunks_fails(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one would whose deletions the copy on the GPU does not know."""
    search = faiss_gpu.GpuCopy.search
    monkeypatch.setattr(
        faiss_gpu.GpuCopy,
        "search",
        lambda self, segment, vector, k, dead: search(self, segment, vector, k, np.zeros_like(dead)),
    )

    with pytest.raises(CheckFailedError, match="deleted or filtered out"):
        vectors.check_kind("flat", "replicated", rows=ROWS)


def test_an_index_that_ignores_filters_fails(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As FAISS does on a GPU, without a word, when it is given a selector."""
    search = FaissIndex.search
    monkeypatch.setattr(FaissIndex, "search", lambda self, vector, k, allowed=None: search(self, vector, k))

    with pytest.raises(CheckFailedError, match="deleted or filtered out"):
        vectors.check_kind("flat", "replicated", rows=ROWS)


def test_an_index_that_misses_the_nearest_fails(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worst chunks are no substitute for the best."""
    search = faiss_gpu.GpuCopy.search
    monkeypatch.setattr(
        faiss_gpu.GpuCopy, "search", lambda self, segment, vector, k, dead: search(self, segment, -vector, k, dead)
    )

    with pytest.raises(CheckFailedError, match=r"recall@10 0\.0"):
        vectors.check_kind("flat", "replicated", rows=ROWS)


def test_an_index_that_stays_on_the_cpu_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that is there and not used is a fault."""
    monkeypatch.setattr(faiss_gpu, "num_gpus", lambda: 0)

    with pytest.raises(CheckFailedError, match="does not copy it to the GPU"):
        vectors.check_kind("flat", "replicated", rows=ROWS)
