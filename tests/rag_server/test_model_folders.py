"""What of a folder decides what its model says."""

from pathlib import Path

import pytest

from rag_server.model_folders import copy_model, fingerprint_of, model_files
from tests.adapters import make_adapter, make_model


@pytest.mark.parametrize("change", ["weights", "config", "template", "module"])
def test_fingerprint_changes_with_the_model(tmp_path: Path, change: str) -> None:
    """Other weights, another configuration, another chat template or another module make another model."""
    folder = make_model(tmp_path / "model")
    before = fingerprint_of(folder)
    if change == "weights":
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    elif change == "config":
        (folder / "config.json").write_text('{"rope_theta": 1}')
    elif change == "template":
        (folder / "chat_template.jinja").write_text("{{ messages }}")
    else:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text("{}")

    assert fingerprint_of(folder) != before


def test_fingerprint_stays_with_what_says_nothing(tmp_path: Path) -> None:
    """A card, the training record, checkpoints and an evaluation beside the model make no other one; nor does its name."""
    folder = make_adapter(tmp_path / "adapter")
    before = fingerprint_of(folder)
    for name in ("README.md", "training.json", "evaluation.json", "training_args.bin"):
        (folder / name).write_text("{}")
    (folder / "checkpoint-9").mkdir()
    (folder / "checkpoint-9" / "config.json").write_text("{}")
    copy_model(folder, tmp_path / "copy")

    assert fingerprint_of(folder) == fingerprint_of(tmp_path / "copy") == before


def test_weights_under_another_name_are_another_model(tmp_path: Path) -> None:
    """Where a file stands counts, not only what is in it."""
    folder = make_model(tmp_path / "model")
    before = fingerprint_of(folder)
    (folder / "model.safetensors").rename(folder / "other.safetensors")

    assert fingerprint_of(folder) != before
    assert [str(path) for path in model_files(folder)] == ["config.json", "other.safetensors"]
