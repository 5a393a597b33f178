"""Tokenizers of each kind and a model so small that they are made anew in each run, and labels."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from rerankers.training.labels import Candidate, RankingLabel
from tests.rerankers.tokenizer_kinds import TEXTS, byte_level, sentence_piece
from tests.tiny_llama import CHATML, save_tiny_llama


def _split_byte_level(pattern: str) -> Tokenizer:
    """Return byte-level BPE that cuts the text by a pattern of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([*TEXTS, *map(str, range(100))], trainer)
    return tokenizer


def qwen() -> Tokenizer:
    """Qwen's cut: each digit by itself, a space with the word or the signs after it."""
    return _split_byte_level(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+")


def llama_3() -> Tokenizer:
    """Llama 3's cut: up to three digits are one piece."""
    return _split_byte_level(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+")


def llama_2() -> Tokenizer:
    """Llama 2's own file: spaces are marked in the text itself, and one is put before it even where it begins with one."""
    tokenizer = Tokenizer(sentence_piece().model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "llama-2": llama_2,
    "mistral": sentence_piece,
    "llama-3": llama_3,
    "qwen": qwen,
    "smollm": byte_level,
}


def as_transformers(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Return the tokenizer as models have it, with a chat template."""
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|im_end|>")
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    fast.chat_template = CHATML
    return fast


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Models so small take longer to share out than to compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def smollm() -> PreTrainedTokenizerFast:
    """The tokenizer of the kind that the packaged model has."""
    return as_transformers(byte_level())


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, smollm: PreTrainedTokenizerFast) -> Path:
    """A model folder: two Llama layers with random weights."""
    folder = tmp_path_factory.mktemp("tiny")
    return save_tiny_llama(folder, smollm)


def candidates(texts: Sequence[str], title: str = "") -> list[Candidate]:
    """Return candidates of texts, in their order, with scores that fall."""
    return [Candidate(id=f"d{index}", title=title, text=text, score=1 / (index + 1)) for index, text in enumerate(texts)]


def label(texts: Sequence[str], permutation: Sequence[int], query: str = "who sat") -> RankingLabel:
    """Return a label of those texts."""
    return RankingLabel(query_id=query, query=query, passages=tuple(candidates(texts)), permutation=tuple(permutation))
