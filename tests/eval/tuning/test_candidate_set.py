"""The command that trains the candidate-set ranker and compares it with rank fusion."""

import json
from pathlib import Path

import pytest

from eval.tuning.candidate_set import main
from rag_server.protocols import Embedder
from rerankers.candidate_set_ranker import load_candidate_set_ranker


@pytest.mark.usefixtures("data")
def test_it_trains_measures_and_saves(embedder: Embedder, tmp_path: Path) -> None:
    """The folder holds a ranker that loads, and a record with nDCG@10 of both on a collection it was not trained on."""
    out = tmp_path / "out"
    run = ["--out", str(out), "--steps", "3", "--accumulation", "1", "--batch-size", "4", "--width", "8", "--layers", "1"]

    assert main(["--train", "hotpotqa", "--measure", "scifact", *run]) == 0
    record = json.loads((out / "training.json").read_text())
    figures = record["nDCG@10"]["scifact"]
    assert set(figures) == {"fusion", "ranker", "p"}
    assert all(0 < figures[name] <= 1 for name in figures)
    assert record["num_lists"] > 0
    load_candidate_set_ranker(out / "model", embedder)
