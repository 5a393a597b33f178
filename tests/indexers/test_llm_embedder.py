"""The language model as an embedder, against written-out pooling, itself as a plain model, and sentence-transformers."""

import json
import shutil
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from peft import PeftModel

from indexers.llm_embedder import FAMILIES, LlmEmbedder, batches_by_length, pooled
from indexers.llm_embedder_folder import Attention, EmbedderOptions, Pooling
from indexers.sentence_embedder import SentenceEmbedder
from rag_server.config import load_settings
from rag_server.errors import ConfigError, UnsupportedModelError
from rag_server.factory import load_embedder
from rag_server.learning.models import load_model, load_tokenizer, with_adapter
from rag_server.learning.options import AdapterOptions
from tests.indexers.tiny_llm import FAMILIES as TINY_FAMILIES
from tests.indexers.tiny_llm import tiny_folder, tiny_model, tiny_tokenizer

TEXTS = ["Cats sleep.", "A ketch has two masts, and a yawl too.", "日本語", "\nA line", "x", "long " * 60]
OPTIONS = EmbedderOptions(query_prompt="Q:\n", passage_prompt="P:\n", max_tokens=64)


def make_embedder(family: str = "llama", options: EmbedderOptions = OPTIONS, **tokenizer: Any) -> LlmEmbedder:
    return LlmEmbedder(tiny_model(family), tiny_tokenizer(**tokenizer), options)


def adapted(model: Any) -> PeftModel:
    """Return the model with an adapter that changes much."""
    model = with_adapter(model, AdapterOptions(rank=4, num_layers=1), seed=0)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    return model


def states(embedder: LlmEmbedder, ids: list[int], *, is_causal: bool) -> torch.Tensor:
    with torch.no_grad():
        ids_ = torch.tensor([ids])
        mask = torch.ones_like(ids_)
        return embedder.language_model.base_model(input_ids=ids_, attention_mask=mask, is_causal=is_causal).last_hidden_state[0]


def test_tiny_models_cover_the_families() -> None:
    """Every family that is supported is tested."""
    assert set(TINY_FAMILIES) == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", get_args(Attention))
def test_a_later_token_changes_an_earlier_state_only_both_ways(family: str, attention: Attention) -> None:
    """With the first token pooled, another last token changes the vector in bidirectional mode, and not in causal mode."""
    embedder = make_embedder(family, EmbedderOptions("first", attention, "", "", 64))
    one, other = embedder.encode(["abcdef", "abcdeg"], "query")

    assert (np.abs(one - other).max() > 1e-4) == (attention == "bidirectional")


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_is_that_of_the_plain_model(family: str) -> None:
    """After encoding both ways, logits and generated tokens equal those of a model that never was an embedder."""
    embedder, plain = make_embedder(family), tiny_model(family)
    embedder.encode(TEXTS, "passage")
    ids = torch.tensor([list(b"Once upon a time")])
    with torch.no_grad():
        logits, expected = (model(input_ids=ids).logits for model in (embedder.language_model, plain))
    generated, told = (
        model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
        for model in (embedder.language_model, plain)
    )

    torch.testing.assert_close(logits, expected, rtol=0, atol=0)
    assert torch.equal(generated, told)


@pytest.mark.parametrize("attention", get_args(Attention))
def test_adapter_off_equals_base(attention: Attention) -> None:
    """With its adapter switched off the model encodes as the base does, with it otherwise; the base's weights are untouched."""
    options = EmbedderOptions(attention=attention, max_tokens=128)
    base = make_embedder(options=options).encode(TEXTS, "query")
    embedder = LlmEmbedder(adapted(tiny_model()), tiny_tokenizer(), options)
    with embedder.model.disable_adapter():
        off = embedder.encode(TEXTS, "query")

    np.testing.assert_array_equal(off, base)
    assert np.abs(embedder.encode(TEXTS, "query") - base).max() > 1e-2


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", [(3 + 5 + 7) / 3, (2 + 4) / 2]),
        # The third to fifth, and the second and third tokens of their texts.
        ("weighted_mean", [(3 * 3 + 4 * 5 + 5 * 7) / 12, (2 * 2 + 3 * 4) / 5]),
        ("last", [7, 4]),
        ("first", [3, 2]),
    ],
)
@pytest.mark.parametrize("padding_side", ["right", "left"])
def test_pooling_by_hand(pooling: Pooling, expected: list[float], padding_side: str) -> None:
    """Each pooling of two texts, with prompts of two tokens and one, equals its sum by hand; padding on any side is ignored."""
    rows = [[1.0, 1.0, 3.0, 5.0, 7.0], [9.0, 2.0, 4.0]]
    padding = [100.0, 100.0]
    rows[1] = rows[1] + padding if padding_side == "right" else padding + rows[1]
    mask = [[1] * 5, [1, 1, 1, 0, 0] if padding_side == "right" else [0, 0, 1, 1, 1]]
    found = pooled(torch.tensor(rows)[:, :, None], torch.tensor(mask), torch.tensor([2, 1]), pooling)

    torch.testing.assert_close(found[:, 0], torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize("pooling", get_args(Pooling))
def test_a_text_of_nothing_is_zero(pooling: Pooling) -> None:
    """A text of which only the prompt is there has the vector 0, not a number that is none."""
    found = pooled(torch.ones(1, 3, 2), torch.tensor([[1, 1, 1]]), torch.tensor([3]), pooling)

    assert found.tolist() == [[0, 0]]


@pytest.mark.parametrize("pooling", get_args(Pooling))
@pytest.mark.parametrize("attention", get_args(Attention))
def test_company_and_padding_change_nothing(pooling: Pooling, attention: Attention) -> None:
    """A text has the same vector alone, among others, in any order, and with a tokenizer that pads on the left."""
    options = EmbedderOptions(pooling, attention, max_tokens=128)
    embedder = make_embedder(options=options)
    together = embedder.encode(TEXTS, "passage")
    alone = np.concatenate([embedder.encode([text], "passage") for text in TEXTS])

    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(embedder.encode(TEXTS[::-1], "passage")[::-1], together, atol=1e-5)
    np.testing.assert_allclose(
        make_embedder(options=options, padding_side="left").encode(TEXTS, "passage"), together, atol=1e-5
    )
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_prompts_are_read_but_not_pooled() -> None:
    """Mean pooling takes the mean of the text's states after the prompt was read."""
    embedder = make_embedder()
    ids = list(b"Q:\nabc")
    expected = states(embedder, tiny_tokenizer()("Q:\nabc")["input_ids"], is_causal=False)[3:].mean(dim=0)
    found = embedder.encode(["abc"], "query")[0]

    assert len(ids) == 6
    np.testing.assert_allclose(found, (expected / expected.norm()).numpy(), atol=1e-5)


def test_batches_by_length_hold_every_text_once() -> None:
    """Each text is in one batch, the longest first; no batch of several is over the limit with its padding."""
    lengths = [3, 10, 1, 7, 7, 40]
    batches = batches_by_length(lengths, 20)

    assert batches == [[5], [1, 3], [4, 0], [2]]
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 20 for batch in batches)


@pytest.mark.parametrize("kind", ["plain", "merged", "kept"])
@pytest.mark.parametrize("pooling", get_args(Pooling))
def test_saved_folder_embeds_alike(tmp_path: Path, kind: str, pooling: Pooling) -> None:
    """SentenceEmbedder gives the same vectors from the saved folder, for queries and passages, cut where this one cuts."""
    base = tiny_folder(tmp_path / "base", "qwen3")
    model = load_model(base, "float32")
    options = EmbedderOptions(pooling, "bidirectional", "Find it.\nQuery:\n", "Passage:\n", 100)
    embedder = LlmEmbedder(model if kind == "plain" else adapted(model), load_tokenizer(base), options)
    expected = embedder.encode(TEXTS, "query"), embedder.encode(TEXTS, "passage")
    embedder.save(tmp_path / "saved", keep_adapter=kind == "kept")
    saved = SentenceEmbedder(str(tmp_path / "saved"))

    np.testing.assert_allclose(saved.embed_queries(TEXTS), expected[0], atol=1e-5)
    np.testing.assert_allclose(saved.embed_passages(TEXTS), expected[1], atol=1e-5)
    assert saved.dimension == 32
    assert saved.max_tokens == 100 - len("Passage:\n")
    assert (tmp_path / "saved" / "model.safetensors").is_file() == (kind != "kept")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", get_args(Attention))
def test_saved_folder_keeps_its_attention(tmp_path: Path, family: str, attention: Attention) -> None:
    """The factory opens the saved folder of every family, with the attention that it was made with."""
    embedder = make_embedder(family, EmbedderOptions("first", attention, "", "", 64))
    embedder.save(tmp_path)
    saved = load_embedder(load_settings({"RAG_EMBEDDER__MODEL": str(tmp_path)}))
    vectors = saved.embed_queries(["abcdef", "abcdeg"])

    assert (np.abs(vectors[0] - vectors[1]).max() > 1e-4) == (attention == "bidirectional")
    np.testing.assert_allclose(vectors, embedder.encode(["abcdef", "abcdeg"], "query"), atol=1e-5)


def test_saved_folder_can_be_trained_on(tmp_path: Path) -> None:
    """A folder that was saved is a base again: its language model is causal, and its weights are those that were saved."""
    embedder = make_embedder()
    embedder.save(tmp_path)
    again = LlmEmbedder(load_model(tmp_path, "float32"), load_tokenizer(tmp_path), OPTIONS)
    ids = torch.tensor([list(b"Once upon a time")])
    with torch.no_grad():
        logits, expected = (model(input_ids=ids).logits for model in (again.model, tiny_model()))

    assert json.loads((tmp_path / "config.json").read_text())["is_causal"] is False
    torch.testing.assert_close(logits, expected)


def test_base_that_is_gone_is_named(tmp_path: Path) -> None:
    """A folder with its adapter apart says which base model is missing."""
    base = tiny_folder(tmp_path / "base")
    LlmEmbedder(adapted(load_model(base, "float32")), load_tokenizer(base), OPTIONS).save(tmp_path / "saved", keep_adapter=True)
    shutil.rmtree(base)
    with pytest.raises(ConfigError, match=r"the base model of its adapter is not in .*base"):
        SentenceEmbedder(str(tmp_path / "saved"))


def test_unsupported_family_is_refused() -> None:
    """A model of another family is refused, and the message names those that are supported."""
    model = tiny_model("gpt_neox", num_key_value_heads=4)
    with pytest.raises(UnsupportedModelError, match=r"'gpt_neox'.*llama, mistral"):
        LlmEmbedder(model, tiny_tokenizer(), OPTIONS)


@pytest.mark.parametrize("max_tokens", [3, 257])
def test_lengths_that_cannot_be_are_refused(max_tokens: int) -> None:
    """A limit within the prompt, or beyond the model's positions, is refused."""
    with pytest.raises(ConfigError, match=f"cannot read {max_tokens} tokens"):
        make_embedder(options=EmbedderOptions(query_prompt="Q:\n", passage_prompt="P:\n", max_tokens=max_tokens))
