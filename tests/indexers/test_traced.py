"""An encoder that runs as a recorded graph has the vectors of the one that was recorded, or is not used so."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedModel,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from indexers import traced
from indexers.sentence_embedder import packaged_folder

TEXTS = ["Cats sleep.", "A ketch has two masts. " * 30, "日本語", "How long?", "x" * 300, "Cats sleep. " * 3]
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 30522}
ROBERTA = {**SMALL, "pad_token_id": 0, "max_position_embeddings": 514}
ENCODERS: dict[str, Callable[[], PreTrainedModel]] = {
    "bert": lambda: BertModel(BertConfig(**SMALL)),
    "distilbert": lambda: DistilBertModel(DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64)),
    "electra": lambda: ElectraModel(ElectraConfig(**SMALL, embedding_size=16)),
    "mpnet": lambda: MPNetModel(MPNetConfig(**ROBERTA)),
    "roberta": lambda: RobertaModel(RobertaConfig(**ROBERTA)),
    "xlm-roberta": lambda: XLMRobertaModel(XLMRobertaConfig(**ROBERTA)),
}


@pytest.fixture
def model() -> SentenceTransformer:
    """The packaged model as sentence-transformers loads it."""
    return SentenceTransformer(str(packaged_folder()), device="cpu", local_files_only=True)


def rows_of(model: SentenceTransformer, batch_size: int = 32) -> np.ndarray:
    return model.encode(TEXTS, batch_size=batch_size)


@pytest.mark.parametrize("family", traced.FAMILIES)
def test_vectors_stay_the_same(family: str, tmp_path: Path) -> None:
    """Of every family, texts of other numbers and lengths than were recorded have the vectors that they had."""
    torch.manual_seed(1)
    ENCODERS[family]().save_pretrained(tmp_path)
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        if (packaged_folder() / file).is_file():
            (tmp_path / file).write_bytes((packaged_folder() / file).read_bytes())
    transformer = Transformer(str(tmp_path), max_seq_length=128)
    model = SentenceTransformer(modules=[transformer, Pooling(32, "mean")], device="cpu")
    expected = rows_of(model)

    assert traced.trace(model)
    assert "forward" in vars(model[0].model)
    np.testing.assert_allclose(rows_of(model), expected, atol=1e-6)
    np.testing.assert_allclose(rows_of(model, batch_size=1), expected, atol=1e-6)


def test_packaged_model_runs_as_a_graph(model: SentenceTransformer) -> None:
    """The packaged model is one that can be recorded; its vectors stay the same."""
    expected = rows_of(model)

    assert traced.trace(model)
    np.testing.assert_allclose(rows_of(model), expected, atol=1e-6)


@pytest.mark.parametrize("fault", ["other vectors", "an error", "another family"])
def test_model_that_cannot_be_recorded_is_left_as_it_is(
    model: SentenceTransformer, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph with other vectors, or one that cannot be made, is not used; a model of another family is not recorded."""
    expected, encoder, record = rows_of(model), model[0].model, traced._recorded

    def recorded(encoder: object, example: object) -> Callable[..., dict[str, torch.Tensor]]:
        graph = record(encoder, example)
        if fault == "an error":
            raise RuntimeError("an operation that cannot be recorded")
        return lambda **given: {name: torch.flip(states, [-1]) for name, states in graph(**given).items()}

    monkeypatch.setattr(traced, "_recorded", recorded)
    if fault == "another family":
        encoder.config.model_type = "llama"

    assert not traced.trace(model)
    assert "forward" not in vars(encoder)
    np.testing.assert_array_equal(rows_of(model), expected)


def test_nothing_is_said_of_it() -> None:
    """Whoever starts a command reads what it has to say, and nothing of how its model was loaded."""
    load = "from indexers.sentence_embedder import SentenceEmbedder; SentenceEmbedder()"
    loaded = subprocess.run([sys.executable, "-c", load], capture_output=True, text=True, check=True)

    assert (loaded.stdout, loaded.stderr) == ("", "")
