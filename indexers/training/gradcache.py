"""Exact gradients of a loss over many vectors, with the graph of one mini-batch in memory at a time (GradCache)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

MiniBatch = TypeVar("MiniBatch")


@dataclass(frozen=True, slots=True)
class RandomState:
    """Where the random generators stood, so that the second pass drops out what the first did."""

    cpu: Tensor
    cuda: tuple[Tensor, ...]

    @classmethod
    def now(cls) -> "RandomState":
        """Return where they stand."""
        return cls(torch.get_rng_state(), tuple(torch.cuda.get_rng_state_all()) if torch.cuda.is_available() else ())

    def restore(self) -> None:
        """Make them go on from there."""
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(list(self.cuda))


def cached_backward(
    mini_batches: Sequence[MiniBatch], encode: Callable[[MiniBatch], Tensor], loss: Callable[[Tensor], Tensor]
) -> Tensor:
    """Add the gradients of the loss to those of the encoder's parameters, and return the loss without a graph.

    Each mini-batch is encoded twice: first without a graph, for the loss; then with one, which is freed before the next. A
    single one is encoded once.

    Args:
        mini_batches: Anything that `encode` takes.
        encode: Returns (rows, dimension).
        loss: Takes all rows in the order of the mini-batches; returns a scalar.
    """
    if len(mini_batches) == 1:
        value = loss(encode(mini_batches[0]))
        torch.autograd.backward(value)
        return value.detach()
    states, parts = [], []
    with torch.no_grad():
        for mini_batch in mini_batches:
            states.append(RandomState.now())
            parts.append(encode(mini_batch))
    vectors = torch.cat(parts).requires_grad_()
    value = loss(vectors)
    (gradients,) = torch.autograd.grad(value, vectors)
    after = RandomState.now()
    shares = torch.split(gradients, [len(part) for part in parts])
    for mini_batch, state, share in zip(mini_batches, states, shares, strict=True):
        state.restore()
        torch.autograd.backward(encode(mini_batch), share)
    after.restore()
    return value.detach()
