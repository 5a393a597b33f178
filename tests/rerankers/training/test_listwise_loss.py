"""The listwise loss against one that is written out."""

import math

import pytest
import torch

from rerankers.training.labels import judged_label
from rerankers.training.listwise_loss import gains_of, listwise_loss, padded
from tests.rerankers.training.conftest import candidates, label


def test_the_loss_is_listnets() -> None:
    """Lists of three and of two, the second padded: the mean of -sum g / sum(g) log softmax(s), written out."""
    scores = torch.tensor([[1.0, 0.5, -1.0], [2.0, 0.0, 77.0]])
    gains, mask = padded([[3.0, 1.0, 0.0], [0.0, 1.0]])

    first_total = math.log(math.exp(1) + math.exp(0.5) + math.exp(-1))
    first = -(3 / 4 * (1 - first_total) + 1 / 4 * (0.5 - first_total))
    second = math.log(math.exp(2) + math.exp(0))

    assert listwise_loss(scores, gains, mask).item() == pytest.approx((first + second) / 2, rel=1e-5)


def test_padding_has_no_gradient() -> None:
    """What stands where a list has no candidate changes nothing, not even to no number."""
    scores = torch.tensor([[2.0, 0.0, 77.0]], requires_grad=True)
    gains, mask = padded([[0.0, 1.0]])
    listwise_loss(scores, torch.cat([gains, torch.zeros(1, 1)], 1), torch.cat([mask, torch.zeros(1, 1).bool()], 1)).backward()

    assert scores.grad is not None
    assert scores.grad[0, 2] == 0
    assert scores.grad.isfinite().all()


def test_gains_of_grades_and_of_orders() -> None:
    """2^grade - 1 where people judged, else one over the rank."""
    judged = judged_label("q", "q", candidates(["a", "b", "c"]), {"d1": 2, "d2": 1})

    assert gains_of(judged) == [0, 3, 1]
    assert gains_of(label(["a", "b", "c"], [2, 0, 1])) == [1 / 2, 1 / 3, 1]
