"""The loss of rankers that score: cross-entropy between what the labels and what the scores say of a whole list."""

from collections.abc import Sequence

import torch

from rerankers.training.labels import RankingLabel


def gains_of(label: RankingLabel) -> list[float]:
    """Return what each passage is worth, in the first stage's order.

    Of grades it is 2^grade - 1, as in DCG; of a teacher's order 1 / rank, since its first ranks are the surest.
    """
    if label.grades is not None and any(label.grades):
        return [2.0**grade - 1 for grade in label.grades]
    gains = [0.0] * len(label.passages)
    for rank, position in enumerate(label.permutation, start=1):
        gains[position] = 1 / rank
    return gains


def padded(rows: Sequence[Sequence[float]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return [lists, longest] of the rows, padded with zeros, and the mask of where they are."""
    lengths = torch.tensor([len(row) for row in rows])
    mask = torch.arange(int(lengths.max())).unsqueeze(0) < lengths.unsqueeze(1)
    values = torch.zeros(mask.shape)
    values[mask] = torch.tensor([value for row in rows for value in row])
    return values, mask


def listwise_loss(scores: torch.Tensor, gains: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean over the lists of -sum_i g_i / sum(g) log softmax(s)_i (ListNet, Cao et al., ICML 2007).

    Args:
        scores: [lists, candidates].
        gains: [lists, candidates], 0 or more, in each list one above 0.
        mask: [lists, candidates], False where a list has no candidate.
    """
    log_shares = scores.float().masked_fill(~mask, -torch.inf).log_softmax(dim=1).masked_fill(~mask, 0.0)
    wanted = gains / gains.sum(dim=1, keepdim=True)
    return -(wanted * log_shares).sum(dim=1).mean()
