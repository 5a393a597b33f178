"""The loss against one that is written out, and the command from rows to an adapter."""

import json
import math
from pathlib import Path

import pytest
import torch

from rag_server.errors import TrainingDataError
from rag_server.learning.models import load_model, load_tokenizer, with_adapter
from rag_server.learning.options import AdapterOptions, TrainingOptions
from rag_server.training import train
from rag_server.training.answer_loss import answer_loss, collate
from rag_server.training.examples import ExampleOptions, TokenizedExample
from rag_server.training.rows import read_rows

EXAMPLES = [TokenizedExample((5, 6, 7, 8, 9), 3), TokenizedExample((5, 9), 1), TokenizedExample((11, 12, 13, 14), 1)]


def test_the_loss_is_that_of_the_answers_tokens_alone(tiny_model: Path) -> None:
    """Of a padded batch: minus the mean log-probability of each answer token, given all before it, one sequence at a time."""
    model = load_model(tiny_model, "float32").eval()
    logprobs: list[float] = []
    for example in EXAMPLES:
        logits = model(torch.tensor([example.token_ids])).logits[0].log_softmax(-1)
        places = range(example.num_prompt, len(example.token_ids))
        logprobs += [logits[place - 1, example.token_ids[place]].item() for place in places]
    batch = collate(EXAMPLES, padding_id=0)
    loss, told = answer_loss(model, batch)

    assert batch["num_tokens"] == 11
    assert loss.item() == pytest.approx(-sum(logprobs) / 6, rel=1e-4)
    assert 0 <= told["accuracy"] <= 1


def test_what_the_prompt_says_does_not_count(tiny_model: Path) -> None:
    """The gradient is that of a loss with the answer only: a batch whose prompt token is badly predicted has the same loss."""
    batch = collate(EXAMPLES[1:2], padding_id=0)

    assert batch["labels"].tolist() == [[-100, 9]]
    assert batch["num_kept"] == 2


def test_the_adapter_off_is_the_base_model(tiny_model: Path) -> None:
    """A trained adapter changes the answer; without it the model is as it was."""
    ids = torch.tensor([[5, 6, 7]])
    base = load_model(tiny_model, "float32").eval()
    before = base(ids).logits
    model = with_adapter(base, AdapterOptions(rank=2, num_layers=1), seed=0).eval()
    changed = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.ones_(parameter)
    with model.disable_adapter():
        off = model(ids).logits

    assert torch.equal(off, before)
    assert not torch.allclose(model(ids).logits, before)
    assert changed
    assert all(".layers.1." in name for name in changed)


def write_rows(path: Path, *subjects: str) -> Path:
    rows = [
        {
            "id": subject,
            "question": f"When does the {subject} leave?",
            "answers": [f"at {place}"],
            "passages": [{"title": subject, "text": f"The {subject} leaves at {place}.", "gold": True}],
        }
        for place, subject in enumerate(subjects)
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_the_command_makes_an_adapter(tiny_model: Path, tmp_path: Path) -> None:
    """From rows to safetensors that the base model takes, with the record of how; the loss falls on the way."""
    rows = write_rows(tmp_path / "rows.jsonl", "ferry", "bus", "train")
    out = tmp_path / "out"
    arguments = [
        "--base",
        str(tiny_model),
        "--rows",
        str(rows),
        "--out",
        str(out),
        "--steps",
        "10",
        "--accumulation",
        "1",
        "--max-passages",
        "1",
    ]
    train.main([*arguments, "--rank", "8", "--learning-rate", "0.05", "--log-every", "1", "--precision", "float32"])
    record = json.loads((out / "training.json").read_text())
    losses = [row["loss"] for row in record["log"]]
    config = json.loads((out / "adapter" / "adapter_config.json").read_text())

    assert losses[-1] < losses[0]
    assert losses[0] == pytest.approx(math.log(len(load_tokenizer(tiny_model))), rel=0.3)
    assert config["r"] == 8
    assert (out / "adapter" / "adapter_model.safetensors").is_file()
    assert record["options"]["steps"] == 10
    assert len(record["rows"]) == 64


def test_what_is_measured_with_cannot_be_trained_on(tiny_model: Path, tmp_path: Path) -> None:
    """A gold passage in both files is refused before a model is loaded."""
    rows = write_rows(tmp_path / "rows.jsonl", "ferry", "bus")
    held_out = write_rows(tmp_path / "held-out.jsonl", "ferry")

    with pytest.raises(SystemExit, match="both trained on and measured"):
        train.main(
            ["--base", str(tiny_model), "--rows", str(rows), "--held-out", str(held_out), "--out", str(tmp_path / "out")]
        )


def test_examples_that_are_all_too_long_are_an_error(tiny_model: Path, tmp_path: Path) -> None:
    """The message says which limit it was."""
    rows = write_rows(tmp_path / "rows.jsonl", "ferry")

    with pytest.raises(TrainingDataError, match="20 tokens"):
        train.make_examples(
            read_rows(rows),
            load_tokenizer(tiny_model),
            TrainingOptions(tmp_path, steps=1),
            ExampleOptions(max_tokens=20),
        )
