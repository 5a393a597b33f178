"""The importance-aware loss of full ranking: what a ranking names first weighs most (Liu et al., arXiv 2412.14574).

Which token belongs to which rank is read off the tokenizer's own character offsets, never off the ids of some vocabulary.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from rag_server.errors import RerankError, TrainingDataError, UnsupportedModelError
from rag_server.learning.loop import Batch
from rag_server.protocols import Engine
from rerankers.identifiers import single_token_identifiers
from rerankers.listwise_format import CompactFormat, ListwiseFormat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The first word of a text is a token of its own kind; answers that begin with a space are read behind this.
_BEFORE = "x"
SEPARATOR_WEIGHT = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model is to write: its text, its tokens, and the weight of each token's loss."""

    text: str
    token_ids: tuple[int, ...]
    weights: tuple[float, ...]


def identifier_weight(rank: int) -> float:
    """Return the weight of the tokens that name the passage at that rank, from 1: 2 for the best, towards 1 for the last."""
    return 1 + 1 / math.log2(rank + 1)


def answer_of(tokenizer: "PreTrainedTokenizerBase", form: ListwiseFormat, permutation: Sequence[int]) -> Answer:
    """Return the answer that names the candidates in that order, as serving lets the model write it.

    Raises:
        TrainingDataError: There are more candidates than identifiers.
        UnsupportedModelError: Two identifiers share a token, or an identifier of the compact format is not one token.
    """
    if form.max_passages is not None and len(permutation) > form.max_passages:
        raise TrainingDataError(f"{len(permutation)} passages are more than the {form.max_passages} identifiers of the format")
    text, spans = _written(form, permutation)
    before = _BEFORE if form.separator is None else ""
    token_ids, offsets = _tokens_after(tokenizer, before, text)
    ranks = [_rank_at(start, end, spans) for start, end in offsets]
    if form.separator is None and ranks != list(range(1, len(permutation) + 1)):
        raise UnsupportedModelError(
            "the identifiers of the compact format are not single tokens of this tokenizer: take the paper's format"
        )
    weights = [SEPARATOR_WEIGHT if rank is None else identifier_weight(rank) for rank in ranks]
    return Answer(text, token_ids, tuple(weights))


def _written(form: ListwiseFormat, permutation: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """Return the answer, and the character span of the identifier at each rank."""
    text, spans = "", []
    for index in permutation:
        piece = form.separated(index)
        # Of the first one nothing but the space that belongs to its token comes before it.
        piece = piece.rpartition(" ")[2] if not text and form.separator is not None else piece
        text += piece
        spans.append((len(text) - len(piece.rpartition(" ")[2]), len(text)))
    return text, spans


def _tokens_after(
    tokenizer: "PreTrainedTokenizerBase", before: str, text: str
) -> tuple[tuple[int, ...], list[tuple[int, int]]]:
    """Return ids and character spans of the tokens of a text that follows another."""
    prefix = list(tokenizer(before, add_special_tokens=False)["input_ids"]) if before else []
    encoded = tokenizer(before + text, add_special_tokens=False, return_offsets_mapping=True)
    token_ids = list(map(int, encoded["input_ids"]))
    if token_ids[: len(prefix)] != prefix:
        raise UnsupportedModelError("the tokenizer joins identifiers with the text before them: take the paper's format")
    spans = [(int(start) - len(before), int(end) - len(before)) for start, end in encoded["offset_mapping"]]
    return tuple(token_ids[len(prefix) :]), spans[len(prefix) :]


def _rank_at(start: int, end: int, spans: Sequence[tuple[int, int]]) -> int | None:
    """Return the rank, from 1, whose identifier holds a character of the token, None if none does."""
    ranks = [rank for rank, (first, last) in enumerate(spans, start=1) if first < end and start < last]
    if len(ranks) > 1:
        raise UnsupportedModelError("the tokenizer joins neighbouring identifiers: it cannot be trained to rank")
    return ranks[0] if ranks else None


class _TokenizerAsEngine:
    """Tells a tokenizer's tokens as an engine does, so that training and serving choose the same identifiers."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer

    async def tokenize(self, _: str, text: str) -> list[tuple[int, str]]:
        token_ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return list(zip(token_ids, self._tokenizer.convert_ids_to_tokens(token_ids), strict=True))


def compact_format(tokenizer: "PreTrainedTokenizerBase") -> CompactFormat:
    """Return the compact format with the identifiers that serving will choose for this tokenizer.

    Raises:
        UnsupportedModelError: Too few of them are single tokens.
    """
    engine = cast("Engine", _TokenizerAsEngine(tokenizer))
    try:
        return CompactFormat(asyncio.run(single_token_identifiers(engine, "the model")))
    except RerankError as error:
        raise UnsupportedModelError(f"{error}; train with --format paper") from error


def weighted_loss(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the mean over the examples of -(1/T) sum_i w_i log P(y_i), T being the number of the example's answer tokens.

    Args:
        logits: [examples, tokens, vocabulary], at the positions before the targets.
        targets: [examples, tokens] of token ids.
        weights: [examples, tokens]; 0 where there is no answer token.
    """
    log_p = -torch.nn.functional.cross_entropy(logits.float().transpose(1, 2), targets, reduction="none")
    num_tokens = (weights > 0).sum(dim=1)
    return (-(weights * log_p).sum(dim=1) / num_tokens).mean()


def ranking_loss(model: Any, batch: Batch, *, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, Mapping[str, float]]:
    """Return the weighted loss of a batch of `examples.collate`, and the share of tokens that the model would have written.

    Logits are computed at the answers' positions alone: prompts are many times as long. Weights of single precision are
    multiplied in `dtype`.
    """
    targets, weights = batch["targets"], batch["weights"]
    with torch.autocast(targets.device.type, dtype, enabled=dtype != torch.float32):
        output = model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            position_ids=batch["position_ids"],
            logits_to_keep=targets.shape[1] + 1,
            use_cache=False,
        )
    # The logits at a position are of the token after it.
    logits = output.logits[:, :-1]
    right = (logits.detach().argmax(-1) == targets)[weights > 0].float().mean()
    return weighted_loss(logits, targets, weights), {"accuracy": float(right)}
