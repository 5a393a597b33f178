"""The training loop that the three trainings share, on a model of a handful of numbers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rag_server.errors import OutOfMemoryError, TrainingDataError, TrainingDivergedError
from rag_server.learning.loop import Batch, run_training
from rag_server.learning.options import TrainingOptions

NUMBERS = [float(number) for number in range(12)]


class Line(torch.nn.Module):
    """One weight, which learns to double."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, **_: Any) -> None:
        """Take whatever comes, by which the Trainer knows a model that divides its loss itself."""


def collate(numbers: Sequence[float]) -> Batch:
    return {"x": torch.tensor(numbers), "labels": torch.tensor(numbers), "num_tokens": len(numbers)}


def squared(model: Any, batch: Batch) -> tuple[torch.Tensor, Mapping[str, float]]:
    return ((model.weight * batch["x"] - 2 * batch["x"]) ** 2).mean(), {"weight": model.weight.item()}


def options(out: Path, **changes: Any) -> TrainingOptions:
    made = TrainingOptions(out=out, steps=12, batch_size=2, accumulation=2, learning_rate=0.1, save_every=4, log_every=1)
    return replace(made, **changes)


def test_it_learns_and_keeps_a_log(tmp_path: Path) -> None:
    """The weight comes near 2, and each step has a row with the loss and what was told beside it."""
    model = Line()
    ran = run_training(model, NUMBERS, loss=squared, collate=collate, options=options(tmp_path), what="line")
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]

    assert abs(model.weight.item() - 2) < 0.5
    assert len(rows) == 12
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[0]["weight"] == 1.0
    assert ran.tokens_per_s > 0


def test_accumulation_is_one_larger_batch(tmp_path: Path) -> None:
    """Two batches of two make the gradient that one of four makes."""
    seen = []
    for name, size, accumulation in (("two", 2, 2), ("one", 4, 1)):
        chosen = options(tmp_path / name, steps=1, batch_size=size, accumulation=accumulation, warmup_share=0.0)
        ran = run_training(Line(), [1.0, 1.0, 3.0, 3.0], loss=squared, collate=collate, options=chosen, what="line")
        seen.append((float(ran.log[0]["loss"]), float(ran.log[0]["grad_norm"])))

    assert seen[0] == pytest.approx(seen[1])


class InterruptedRunError(Exception):
    """Stands for a kill."""


def test_an_interrupted_run_goes_on_and_comes_to_the_same(tmp_path: Path) -> None:
    """After a break in step 7 it goes on from the checkpoint of step 4, with the examples that are left."""
    whole, calls = Line(), []
    run_training(whole, NUMBERS, loss=squared, collate=collate, options=options(tmp_path / "whole"), what="line")

    def breaking(model: Any, batch: Batch) -> tuple[torch.Tensor, Mapping[str, float]]:
        calls.append(batch)
        if len(calls) == 14:
            raise InterruptedRunError
        return squared(model, batch)

    with pytest.raises(InterruptedRunError):
        run_training(Line(), NUMBERS, loss=breaking, collate=collate, options=options(tmp_path / "cut"), what="line")
    resumed = Line()
    run_training(resumed, NUMBERS, loss=squared, collate=collate, options=options(tmp_path / "cut"), what="line")

    assert resumed.weight.item() == pytest.approx(whole.weight.item(), abs=1e-6)


def test_a_run_can_be_made_longer_or_shorter(tmp_path: Path) -> None:
    """It goes on from its checkpoint, and its learning rate falls to nothing at the new end."""

    def breaking(model: Any, batch: Batch) -> tuple[torch.Tensor, Mapping[str, float]]:
        if len(list(tmp_path.glob("checkpoint-*"))) == 2:
            raise InterruptedRunError
        return squared(model, batch)

    with pytest.raises(InterruptedRunError):
        run_training(Line(), NUMBERS, loss=breaking, collate=collate, options=options(tmp_path, steps=40), what="line")
    ran = run_training(Line(), NUMBERS, loss=squared, collate=collate, options=options(tmp_path, steps=10), what="line")

    assert [row["step"] for row in ran.log] == list(range(1, 11))
    assert ran.log[7]["learning_rate"] > 0.05
    assert ran.log[9]["learning_rate"] < 0.01


def test_another_run_does_not_go_on_there(tmp_path: Path) -> None:
    """A folder with checkpoints of other data or options is refused."""
    run_training(Line(), NUMBERS, loss=squared, collate=collate, options=options(tmp_path), what="line")

    for other, what in ((options(tmp_path, learning_rate=0.2), "line"), (options(tmp_path), "other data")):
        with pytest.raises(TrainingDataError, match="another run"):
            run_training(Line(), NUMBERS, loss=squared, collate=collate, options=other, what=what)


def test_a_loss_that_is_no_number_stops_it(tmp_path: Path) -> None:
    """Nothing is learned from it, and the message says at which step, and what to do."""
    model = Line()

    def diverging(model: Any, batch: Batch) -> tuple[torch.Tensor, Mapping[str, float]]:
        return model.weight * float("nan"), {}

    with pytest.raises(TrainingDivergedError, match=r"step 0.*lower the learning rate"):
        run_training(model, NUMBERS, loss=diverging, collate=collate, options=options(tmp_path), what="line")
    assert model.weight.item() == 1.0


def test_a_step_that_does_not_fit_says_what_to_do(tmp_path: Path) -> None:
    """Out of memory is an error with a remedy, on a GPU and beside one."""
    for error in (torch.OutOfMemoryError("CUDA out of memory"), MemoryError()):

        def too_much(model: Any, batch: Batch, error: Exception = error) -> tuple[torch.Tensor, Mapping[str, float]]:
            raise error

        with pytest.raises(OutOfMemoryError, match="smaller batch"):
            run_training(Line(), NUMBERS, loss=too_much, collate=collate, options=options(tmp_path), what="line")


def test_nothing_to_train_on_is_an_error(tmp_path: Path) -> None:
    """An empty set is refused before anything is written."""
    with pytest.raises(TrainingDataError, match="nothing"):
        run_training(Line(), [], loss=squared, collate=collate, options=options(tmp_path / "none"), what="line")
    assert not (tmp_path / "none").exists()
