"""The command, from data to a folder that the server embeds with."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexers.sentence_embedder import SentenceEmbedder
from indexers.training import grl
from indexers.training import train as train_module
from indexers.training.data import Example, read_examples
from indexers.training.negatives import mine_negatives
from indexers.training.train import main, weights
from rag_server.errors import ConfigError
from rag_server.learning.loop import last_checkpoint
from tests.indexers.tiny_llm import tiny_folder

NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
TEXTS = ["number three", "the word six"]


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """The command with a tiny model and data that it can learn."""
    rows = [
        {"query": f"Where is {name}?", "positives": [f"The place of {name}."], "negatives": [f"No place for {other}."]}
        for name, other in zip(NUMBERS, NUMBERS[1:] + NUMBERS[:1], strict=True)
    ]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    base = tiny_folder(tmp_path / "base")
    given: dict[str, Any] = {
        "base": base,
        "data": data,
        "out": tmp_path / "out",
        "steps": 4,
        "batch-size": 4,
        "mini-batch-size": 3,
        "negatives": 1,
        "max-tokens": 128,
        "save-every": 2,
        "log-every": 1,
        "precision": "float32",
        "rank": 4,
    }
    return [part for name, value in given.items() for part in (f"--{name}", str(value))]


def test_both_methods_in_one_command(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """GRL and the contrastive baseline both become folders that embed, and differ; the record says how each was made."""
    main([*arguments, "--baseline"])
    folders = [tmp_path / "out" / "contrastive" / "model", tmp_path / "out" / "model"]
    alone, full = (SentenceEmbedder(str(folder)).embed_passages(TEXTS) for folder in folders)

    # Logs may stand between.
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith(str(tmp_path))]
    assert told == [str(folder) for folder in folders]
    assert np.abs(alone - full).max() > 1e-6
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["options"]["steps"] == 4
    assert record["grl"]["kl"] == {"first": 1.0, "last": 1.0}
    assert [set(row) >= {"contrastive", "generation", "kl"} for row in record["log"]] == [True] * 4
    baseline = json.loads((tmp_path / "out" / "contrastive" / "training.json").read_text())
    assert not any("kl" in row for row in baseline["log"])
    assert baseline["examples"] == record["examples"]


def test_it_learns(arguments: list[str], tmp_path: Path) -> None:
    """After some steps, the contrastive loss is well below that of the first ones."""
    longer = ["--weights", "contrastive=1", "--steps", "20", "--learning-rate", "0.02", "--keep-adapter"]
    main([*arguments, *longer])
    losses = [row["contrastive"] for row in json.loads((tmp_path / "out" / "training.json").read_text())["log"]]

    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    assert (tmp_path / "out" / "model" / "adapter_model.safetensors").is_file()
    SentenceEmbedder(str(tmp_path / "out" / "model"))


def test_interrupted_run_goes_on(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command again ends with the very vectors of a run that was not interrupted, with weights that change by step."""
    arguments += ["--weights", "contrastive=1,generation=0.5,kl=0:1"]
    main([*arguments, "--out", str(tmp_path / "whole")])
    plain = grl.Grl.__call__

    def interrupted(self: grl.Grl, model: Any, batch: dict[str, Any]) -> Any:
        if self._step == 3:
            raise KeyboardInterrupt
        return plain(self, model, batch)

    monkeypatch.setattr(grl.Grl, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        main(arguments)
    monkeypatch.setattr(grl.Grl, "__call__", plain)
    checkpoint = last_checkpoint(tmp_path / "out")
    main(arguments)
    vectors = [SentenceEmbedder(str(tmp_path / name / "model")).embed_queries(TEXTS) for name in ("whole", "out")]

    assert checkpoint is not None
    assert checkpoint.name == "checkpoint-2"
    np.testing.assert_allclose(vectors[1], vectors[0], atol=1e-6)


def test_all_weights_and_mined_negatives(arguments: list[str], tmp_path: Path) -> None:
    """Without an adapter all weights are trained; negatives are mined with the packaged embedder."""
    options = ["--rank", "0", "--generation", "sft", "--mine", "packaged", "--mined", "2", "--skip-ranks", "1"]
    main([*arguments, *options, "--pooling", "last", "--attention", "causal"])

    assert SentenceEmbedder(str(tmp_path / "out" / "model")).embed_queries(TEXTS).shape == (2, 32)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--accumulation", "2"], "--accumulation 1"),
        (["--fsdp", "full_shard"], "leave out --deepspeed and --fsdp"),
        (["--data", "missing.jsonl"], "missing.jsonl cannot be read"),
        (["--base", "missing"], "missing"),
        (["--rank", "0"], "dpo compares with the model without its adapter"),
    ],
)
def test_what_cannot_be_is_named(arguments: list[str], more: list[str], message: str) -> None:
    """The command ends with the reason, before any training."""
    with pytest.raises(SystemExit, match=message):
        main([*arguments, *more])


def test_queries_that_are_measured_with_are_refused(arguments: list[str], tmp_path: Path) -> None:
    """A query that the evaluation asks is not trained on."""
    (tmp_path / "held.jsonl").write_text(json.dumps({"query": "where is ONE?"}) + "\n")
    with pytest.raises(SystemExit, match=r"invalid_training_data: .*both trained on and measured with"):
        main([*arguments, "--evaluation", str(tmp_path / "held.jsonl")])


@pytest.mark.parametrize("text", ["contrastive", "contrastive=x", "dpo=1", "kl=-1", "kl=nan", "kl=0:-1"])
def test_weights_that_are_none_are_refused(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A weight that is misspelt, no number or negative is refused by name."""
    with pytest.raises(SystemExit):
        main([*arguments, "--weights", text])
    assert "--weights" in capsys.readouterr().err


def test_weights() -> None:
    """A number is a weight throughout; two are its first and last value; what is not named is not used."""
    assert weights("contrastive=1,kl=0:0.5") == {
        "contrastive": grl.Weight(1, 1),
        "generation": grl.Weight(0, 0),
        "kl": grl.Weight(0, 0.5),
    }


def test_folder_of_another_model_is_refused(tmp_path: Path) -> None:
    """A trained folder that was damaged is refused by the setting's name."""
    (tmp_path / "modules.json").write_text("[]")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigError, match="RAG_EMBEDDER__MODEL"):
        SentenceEmbedder(str(tmp_path))


def test_mined_negatives_are_kept_for_a_run_that_goes_on(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was mined once is what both runs of the command learn from, and a run that goes on; other data is mined anew."""
    mined: list[int] = []

    def mine(examples: list[Example], *others: Any) -> list[Example]:
        mined.append(len(examples))
        return mine_negatives(examples, *others)

    def examples_of(run: str) -> str:
        return str(json.loads((tmp_path / "out" / run / "training.json").read_text())["examples"])

    monkeypatch.setattr(train_module, "mine_negatives", mine)
    mining = [*arguments, "--mine", "packaged", "--mined", "1", "--skip-ranks", "0"]
    main([*mining, "--baseline"])
    first = examples_of("")
    main(mining)

    assert mined == [len(NUMBERS)]
    assert first == examples_of("contrastive") == examples_of("")
    (kept,) = (tmp_path / "out").glob("mined-*.jsonl")
    assert [len(example.negatives) for example in read_examples(kept)] == [2] * len(NUMBERS)

    data = tmp_path / "data.jsonl"
    data.write_text(data.read_text() + json.dumps({"query": "Where is nine?", "positives": ["The place of nine."]}))
    main([*mining, "--out", str(tmp_path / "out" / "other")])
    with pytest.raises(SystemExit, match="another run"):
        main(mining)
    assert mined == [len(NUMBERS), len(NUMBERS) + 1, len(NUMBERS) + 1]
