"""Curves of training runs."""

import json
from pathlib import Path

import pytest

from eval.tuning.curves import curve, main
from rag_server.errors import TrainingDataError


def a_run(folder: Path, losses: list[float]) -> Path:
    folder.mkdir()
    log = [{"step": 2 * number, "loss": loss} for number, loss in enumerate(losses, start=1)]
    (folder / "training.json").write_text(json.dumps({"log": log}))
    return folder


def test_a_curve_is_smoothed(tmp_path: Path) -> None:
    """Each point is four fifths of the one before and a fifth of what its step told: 10; 8 + 1 = 9; 7.2 + 0 = 7.2."""
    found = curve(a_run(tmp_path / "run", [10, 5, 0]), "loss")

    assert found.label == "run"
    assert found.x == (2, 4, 6)
    assert found.y == pytest.approx((10, 9, 7.2))


def test_a_drawing_is_written(tmp_path: Path) -> None:
    """Two runs make one PNG."""
    runs = [str(a_run(tmp_path / name, [3, 2, 1])) for name in ("one", "two")]

    assert main([*runs, "--out", str(tmp_path / "curve.png")]) == 0
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_not_told_is_an_error(tmp_path: Path) -> None:
    """A value that the log does not have, and a folder without a run, are named."""
    with pytest.raises(TrainingDataError, match="accuracy"):
        curve(a_run(tmp_path / "run", [1]), "accuracy")
    with pytest.raises(TrainingDataError, match="nothing"):
        curve(tmp_path / "nothing", "loss")
