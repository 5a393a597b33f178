"""Every loss against its formula, written out in plain Python on small numbers."""

from math import exp, log

import pytest
import torch

from indexers.training.losses import Preference, contrastive_loss, divergence_loss, preference_loss

POLICY = (torch.tensor([-4.0, -9.0]), torch.tensor([-6.0, -5.0]))
REFERENCE = (torch.tensor([-5.0, -8.0]), torch.tensor([-3.0, -6.0]))
NUM_TOKENS = (torch.tensor([2.0, 4.0]), torch.tensor([3.0, 5.0]))
# How far the right and the wrong passages moved from the reference, in sums: policy less reference.
RIGHT, WRONG = (1.0, -1.0), (-3.0, 1.0)
BETA = 0.1


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def test_contrastive() -> None:
    """Each query's positive against all passages, hard negatives among them; one that is right too is left out."""
    queries = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    passages = torch.tensor([[0.8, 0.6], [0.0, 1.0], [1.0, 0.0]])
    also_right = torch.tensor([[False, False, False], [True, False, False]])
    found = contrastive_loss(queries, passages, torch.tensor([0, 1]), also_right, temperature=0.5)
    first = -log(exp(0.8 / 0.5) / (exp(0.8 / 0.5) + exp(0.0 / 0.5) + exp(1.0 / 0.5)))
    second = -log(exp(0.8 / 0.5) / (exp(0.8 / 0.5) + exp(0.6 / 0.5)))

    assert found.item() == pytest.approx((first + second) / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("sft", (4 / 2 + 9 / 4) / 2),
        ("dpo", sum(-log(sigmoid(BETA * (right - wrong))) for right, wrong in zip(RIGHT, WRONG, strict=True)) / 2),
        ("ipo", ((1 / 2 + 3 / 3 - 1 / (2 * BETA)) ** 2 + (-1 / 4 - 1 / 5 - 1 / (2 * BETA)) ** 2) / 2),
        # The right ones moved by 0 on average, and the wrong ones by -1, which counts as 0.
        (
            "kto",
            (sum(1 - sigmoid(BETA * right) for right in RIGHT) + sum(1 - sigmoid(-BETA * wrong) for wrong in WRONG)) / 4,
        ),
    ],
)
def test_preference(kind: Preference, expected: float) -> None:
    """Each preference loss equals its formula."""
    found = preference_loss(POLICY, REFERENCE, NUM_TOKENS, kind=kind, beta=BETA)

    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_kto_reference_point() -> None:
    """Where a side moved up on average, the other side is measured from there; no gradient goes through that point."""
    policy = (torch.tensor([-1.0, -2.0], requires_grad=True), torch.tensor([-1.0, -1.0]))
    reference = (torch.tensor([-3.0, -2.0]), torch.tensor([-2.0, -4.0]))
    found = preference_loss(policy, reference, NUM_TOKENS, kind="kto", beta=BETA)
    found.backward()
    # Right: 2 and 0, 1 on average; wrong: 1 and 3, 2 on average.
    kept = [1 - sigmoid(BETA * (2 - 2)), 1 - sigmoid(BETA * (0 - 2))]
    left = [1 - sigmoid(BETA * (1 - 1)), 1 - sigmoid(BETA * (1 - 3))]

    assert found.item() == pytest.approx((sum(kept) + sum(left)) / 4, rel=1e-5)
    gradient = [-BETA * (1 - share) * share / 4 for share in kept]
    assert policy[0].grad.tolist() == pytest.approx(gradient, rel=1e-4)


@pytest.mark.parametrize("kind", ["dpo", "ipo", "kto"])
def test_comparing_losses_need_a_reference(kind: Preference) -> None:
    """Nothing stands in silently for a missing reference."""
    with pytest.raises(ValueError, match=f"{kind} needs a reference"):
        preference_loss(POLICY, None, NUM_TOKENS, kind=kind, beta=BETA)


def test_divergence() -> None:
    """The generator's distribution over candidates against the embedder's; the gradient reaches the embedder alone."""
    cosines = torch.tensor([[0.5, 0.1], [0.2, 0.3]], requires_grad=True)
    scores = torch.tensor([[-1.0, -2.0], [-0.5, -0.5]], requires_grad=True)
    found = divergence_loss(cosines, scores, temperature=0.1)
    found.backward()
    expected = 0.0
    for row, told in (((0.5, 0.1), (-1.0, -2.0)), ((0.2, 0.3), (-0.5, -0.5))):
        embedder = [exp(x / 0.1) / sum(exp(y / 0.1) for y in row) for x in row]
        generator = [exp(x) / sum(exp(y) for y in told) for x in told]
        expected += sum(p * log(p / q) for p, q in zip(generator, embedder, strict=True)) / 2

    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert scores.grad is None
    assert cosines.grad is not None
