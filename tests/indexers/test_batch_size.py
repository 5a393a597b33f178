"""The batch size that embeds fastest is learnt from what is embedded anyway, and remembered."""

import json
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from indexers import batch_size
from indexers.batch_size import LEAST_PASSAGES, SAMPLES, SIZES, USUAL, BatchSize, fastest
from indexers.sentence_embedder import SentenceEmbedder

MACHINE = "a model on a machine"
PASSAGES = ["ten letters"] * LEAST_PASSAGES


class Clock:
    """Says how long the machine takes for a portion in batches of a size."""

    def __init__(self, seconds: dict[int, float]) -> None:
        self.now, self.seconds = 0.0, seconds
        self.sizes: list[int] = []

    def encode(self, size: int) -> str:
        self.sizes.append(size)
        self.now += self.seconds[size]
        return "rows"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A machine on which small batches are the fastest."""
    clock = Clock({8: 1.0, 32: 2.0, 128: 4.0})
    monkeypatch.setattr(batch_size, "time", Mock(perf_counter=lambda: clock.now))
    return clock


def test_the_fastest_size_is_used_after_samples_of_each_and_by_the_next_process(machine: Clock, tmp_path: Path) -> None:
    """Sizes take turns until each has its samples; then the fastest is used, also by whoever reads the file."""
    path = tmp_path / "speed.json"
    path.write_text('{"another machine": {"batch_size": 128}}')
    learning = BatchSize(MACHINE, path)
    for _ in range(SAMPLES * len(SIZES)):
        assert learning.embed(PASSAGES, machine.encode) == "rows"

    assert machine.sizes == list(SIZES) * SAMPLES
    machine.sizes.clear()
    learning.embed(PASSAGES, machine.encode)
    BatchSize(MACHINE, path).embed(["one"], machine.encode)
    BatchSize("another machine", path).embed(["one"], machine.encode)
    BatchSize("a third one", path).embed(["one"], machine.encode)
    assert machine.sizes == [8, 8, 128, USUAL]
    rates = {str(size): round(sum(map(len, PASSAGES)) / machine.seconds[size]) for size in SIZES}
    assert json.loads(path.read_text())[MACHINE] == {"batch_size": 8, "characters_per_s": rates}


def test_few_passages_are_no_sample(machine: Clock, tmp_path: Path) -> None:
    """Less than a batch of the greatest size goes as usual, however often."""
    learning = BatchSize(MACHINE, tmp_path / "speed.json")
    for _ in range(20):
        learning.embed(PASSAGES[1:], machine.encode)

    assert machine.sizes == [USUAL] * 20


def test_what_is_hardly_faster_is_not_chosen() -> None:
    """The usual size stays unless another one is clearly faster."""
    assert fastest({8: 104.0, 32: 100.0, 128: 90.0}) == 32
    assert fastest({8: 104.0, 32: 100.0, 128: 106.0}) == 128


@pytest.mark.parametrize("content", ["{", "[]", '{"a model on a machine": 3}', '{"a model on a machine": {"batch_size": 0}}'])
def test_damaged_file_is_learnt_anew(machine: Clock, tmp_path: Path, content: str) -> None:
    """Whatever is in the file, indexing goes on, and the file is whole afterwards."""
    path = tmp_path / "speed.json"
    path.write_text(content)
    learning = BatchSize(MACHINE, path)
    for _ in range(SAMPLES * len(SIZES)):
        learning.embed(PASSAGES, machine.encode)

    assert machine.sizes == list(SIZES) * SAMPLES
    assert json.loads(path.read_text())[MACHINE]["batch_size"] == 8


def test_a_file_that_cannot_be_written_stops_nothing(machine: Clock, tmp_path: Path) -> None:
    """What was learnt is used all the same."""
    (tmp_path / "speed.json").mkdir()
    for path in (tmp_path / "speed.json", tmp_path / "nowhere" / "speed.json"):
        learning = BatchSize(MACHINE, path)
        for _ in range(SAMPLES * len(SIZES) + 1):
            learning.embed(PASSAGES, machine.encode)

        assert machine.sizes.pop() == 8
    assert not (tmp_path / "nowhere").exists()


def test_a_model_learns_while_it_embeds(tmp_path: Path) -> None:
    """Vectors are the same whatever the batches; after enough passages the file names the model and what computes."""
    path = tmp_path / "speed.json"
    model = SentenceEmbedder(speeds=path)
    texts = [f"number {number}" for number in range(LEAST_PASSAGES)]
    rows = [model.embed_passages(texts) for _ in range(SAMPLES * len(SIZES) + 1)]

    (machine,) = json.loads(path.read_text())
    assert machine.startswith("all-MiniLM-L6-v2 on cpu (")
    for others in rows[1:]:
        np.testing.assert_allclose(others, rows[0], atol=2e-3)
