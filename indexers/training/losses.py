"""The losses of GRL: contrastive, generation (DPO, IPO, KTO, SFT), and the embedder's divergence from the generator."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax, logsigmoid, softmax

Preference = Literal["dpo", "ipo", "kto", "sft"]
# They compare a right passage with a wrong one, and the model with itself as it was.
COMPARING: tuple[Preference, ...] = ("dpo", "ipo", "kto")


def contrastive_loss(queries: Tensor, passages: Tensor, positives: Tensor, also_right: Tensor, *, temperature: float) -> Tensor:
    """Return the mean of -log of the share that each query's positive has among all passages of the batch (InfoNCE).

    Args:
        queries: (queries, dimension), unit rows.
        passages: (passages, dimension), unit rows; every passage that is not right for a query is its negative.
        positives: (queries,), the index of each query's passage.
        also_right: (queries, passages), true where a passage other than the positive is right too, and so no negative.
        temperature: Divides the cosines.
    """
    scores = queries @ passages.T / temperature
    return cross_entropy(scores.masked_fill(also_right, -torch.inf), positives)


def preference_loss(
    policy: tuple[Tensor, Tensor],
    reference: tuple[Tensor, Tensor] | None,
    num_tokens: tuple[Tensor, Tensor],
    *,
    kind: Preference,
    beta: float,
) -> Tensor:
    """Return the mean loss of generating the right passage (first of each pair) rather than the wrong one (second).

    Args:
        policy: Sums of the passages' token log-probabilities, (examples,) each.
        reference: The same of the model without its adapter; SFT needs none.
        num_tokens: The passages' lengths, (examples,) each.
        kind: DPO and KTO compare sums and IPO means per token, as their authors do; SFT is the right passage's mean.
            KTO's reference point is estimated from the examples given, from the other side of the pairs.
        beta: How strongly the model is held to its reference.
    """
    if kind == "sft":
        return -(policy[0] / num_tokens[0]).mean()
    if reference is None:
        raise ValueError(f"{kind} needs a reference")
    right, wrong = (ours - theirs for ours, theirs in zip(policy, reference, strict=True))
    if kind == "dpo":
        return -logsigmoid(beta * (right - wrong)).mean()
    if kind == "ipo":
        return ((right / num_tokens[0] - wrong / num_tokens[1] - 1 / (2 * beta)) ** 2).mean()
    drift_right, drift_wrong = (drift.mean().clamp(min=0).detach() for drift in (right, wrong))
    kept = 1 - torch.sigmoid(beta * (right - drift_wrong))
    left = 1 - torch.sigmoid(beta * (drift_right - wrong))
    return torch.cat([kept, left]).mean()


def divergence_loss(cosines: Tensor, generation_scores: Tensor, *, temperature: float) -> Tensor:
    """Return the mean KL divergence of the embedder's distribution over each query's candidates from the generator's.

    The generator teaches: no gradient goes to its scores.

    Args:
        cosines: (queries, candidates), of each query with its candidates.
        generation_scores: (queries, candidates), the mean log-probability of a token of each candidate after the query.
        temperature: Divides the cosines.
    """
    return kl_div(log_softmax(cosines / temperature, dim=1), softmax(generation_scores.detach(), dim=1), reduction="batchmean")
