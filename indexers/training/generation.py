"""How likely a model finds a passage after a query: what the generation side of GRL is computed from."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

# The passage follows; only its tokens are learned.
TEMPLATE = "Write a passage that answers the question.\nQuestion:\n{query}\n\nPassage:\n"


def pair_tokens(
    tokenizer: PreTrainedTokenizerBase, queries: Sequence[str], passages: Sequence[str], *, max_tokens: int
) -> list[tuple[list[int], list[int]]]:
    """Return the tokens of each query in the template, and those of its passage, each cut to half of `max_tokens`."""
    if not queries:
        return []
    half = max_tokens // 2
    asked = tokenizer([TEMPLATE.format(query=query) for query in queries], truncation=True, max_length=half)["input_ids"]
    told = tokenizer(list(passages), truncation=True, max_length=half, add_special_tokens=False)["input_ids"]
    return list(zip(asked, told, strict=True))


def padded_pairs(tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[list[int], list[int]]]) -> dict[str, Tensor]:
    """Return input_ids, attention_mask and learned, true for the tokens of passages; (pairs, longest) each."""
    ids = [asked + told for asked, told in pairs]
    padded = tokenizer.pad({"input_ids": ids}, padding_side="right", return_tensors="pt")
    positions = torch.arange(padded["input_ids"].shape[1])
    starts = torch.tensor([len(asked) for asked, _ in pairs])[:, None]
    ends = torch.tensor([len(row) for row in ids])[:, None]
    return {
        "input_ids": padded["input_ids"],
        "attention_mask": padded["attention_mask"],
        "learned": (positions >= starts) & (positions < ends),
    }


def passage_log_probs(model: Any, pairs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the sum of the log-probabilities of each passage's tokens, and their number; (pairs,) float32 each."""
    logits = model(input_ids=pairs["input_ids"], attention_mask=pairs["attention_mask"], use_cache=False).logits[:, :-1]
    learned = pairs["learned"][:, 1:]
    # Of the learned tokens only: over a large vocabulary the rest would be most of the memory.
    losses = torch.nn.functional.cross_entropy(logits[learned].float(), pairs["input_ids"][:, 1:][learned], reduction="none")
    rows = learned.nonzero()[:, 0]
    sums = torch.zeros(len(learned), device=losses.device).index_add(0, rows, -losses)
    return sums, learned.sum(dim=1).float()
