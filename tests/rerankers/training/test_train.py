"""The command from labels to an adapter or a model, on a model of two layers."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from rerankers.training.labels import write_labels
from rerankers.training.train import main
from tests.rerankers.training.conftest import label

SHORT = ["--steps", "9", "--accumulation", "1", "--batch-size", "2", "--log-every", "3", "--learning-rate", "0.01"]


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """A file of one label, always the same order."""
    write_labels(tmp_path / "labels.jsonl", [label(["a", "b", "c"], [2, 0, 1])])
    return tmp_path / "labels.jsonl"


@pytest.mark.parametrize("form", ["compact", "paper"])
def test_an_adapter_learns_and_is_saved_with_its_record(tiny_model: Path, labels: Path, tmp_path: Path, form: str) -> None:
    """The loss falls; the adapter is beside a record that says from what, and how, it was made."""
    out = tmp_path / "out"
    main(
        [
            "--base",
            str(tiny_model),
            "--labels",
            str(labels),
            "--out",
            str(out),
            "--format",
            form,
            "--max-tokens",
            "2000",
            *SHORT,
        ]
    )

    record = json.loads((out / "training.json").read_text())
    assert record["log"][-1]["loss"] < record["log"][0]["loss"] - 0.1
    assert (record["format"], record["num_labels"], record["options"]["seed"]) == (form, 1, 0)
    assert len(record["labels"]) == 64
    assert all("lora" in name for name in load_file(out / "adapter" / "adapter_model.safetensors"))


def test_all_weights_learn_with_full(tiny_model: Path, labels: Path, tmp_path: Path) -> None:
    """The folder holds a whole model in single precision, with other weights than the base's, and its tokenizer."""
    out = tmp_path / "out"
    main(
        [
            "--base",
            str(tiny_model),
            "--labels",
            str(labels),
            "--out",
            str(out),
            "--full",
            "--precision",
            "bfloat16",
            "--max-tokens",
            "2000",
            *SHORT,
        ]
    )

    saved = load_file(out / "model" / "model.safetensors")
    trained, base = (LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32) for folder in (out / "model", tiny_model))
    assert not torch.equal(trained.model.layers[0].mlp.up_proj.weight, base.model.layers[0].mlp.up_proj.weight)
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}
    assert (out / "model" / "tokenizer.json").is_file()


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (["--max-tokens", "9000"], "unsupported|the model reads 4096"),
        (["--max-passages", "1"], "2 passages or more"),
        (["--max-tokens", "2000", "--held-out", "{labels}"], "both trained on and measured with"),
        (["--max-tokens", "2000", "--max-passages", "2000"], "more than the"),
        (["--full", "--start", "adapter"], "leave out --start"),
        (["--max-tokens", "2000", "--start", "adapter"], "adapter is no adapter"),
    ],
)
def test_what_does_not_fit_ends_with_a_named_error(
    tiny_model: Path, labels: Path, tmp_path: Path, extra: list[str], told: str
) -> None:
    """Nothing is trained: a status that is not 0 and one line that says why."""
    given = [argument.format(labels=labels) for argument in extra]
    with pytest.raises(SystemExit, match=told):
        main(["--base", str(tiny_model), "--labels", str(labels), "--out", str(tmp_path / "out"), *given, *SHORT])
    assert not (tmp_path / "out" / "training.json").exists()
