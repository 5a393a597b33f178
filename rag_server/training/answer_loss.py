"""The loss of the answerer: cross-entropy over the tokens of the answer alone, computed at their positions alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from rag_server.learning.loop import Batch
from rag_server.training.examples import IGNORED, TokenizedExample


def collate(examples: Sequence[TokenizedExample], *, padding_id: int) -> Batch:
    """Return tensors (batch, longest) padded on the left, so that all answers end at the last position.

    `labels` are the token ids of the answers, -100 elsewhere; `num_kept` is how many of the last positions hold them all, with
    the one before, which predicts the first.
    """
    longest = max(len(example.token_ids) for example in examples)
    ids, mask, labels = [], [], []
    for example in examples:
        padding = longest - len(example.token_ids)
        ids.append([padding_id] * padding + list(example.token_ids))
        mask.append([0] * padding + [1] * len(example.token_ids))
        labels.append([IGNORED] * (padding + example.num_prompt) + list(example.token_ids[example.num_prompt :]))
    return {
        "input_ids": torch.tensor(ids),
        "attention_mask": torch.tensor(mask),
        "labels": torch.tensor(labels),
        "num_kept": max(len(example.token_ids) - example.num_prompt for example in examples) + 1,
        "num_tokens": sum(len(example.token_ids) for example in examples),
    }


def answer_loss(model: Any, batch: Batch) -> tuple[torch.Tensor, Mapping[str, float]]:
    """Return the mean over the answers' tokens, and the share of them that the model would have written."""
    num_kept = batch["num_kept"]
    output = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        logits_to_keep=num_kept,
        use_cache=False,
    )
    # The logits at a position are of the token after it.
    logits, labels = output.logits[:, :-1].float(), batch["labels"][:, 1 - num_kept :]
    loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    is_answer = labels != IGNORED
    right = (logits.detach().argmax(-1) == labels)[is_answer].float().mean()
    return loss, {"accuracy": float(right)}
