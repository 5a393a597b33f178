"""GradCache against the direct gradients, and what it keeps in memory."""

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from indexers.training.gradcache import cached_backward


def encoder(dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 4))


def every_row_with_every_other(vectors: Tensor) -> Tensor:
    unit = nn.functional.normalize(vectors, dim=1)
    return torch.logsumexp(unit @ unit.T / 0.1, dim=1).mean()


@pytest.mark.parametrize("mini_batch_size", [1, 4, 5, 12])
def test_gradients_equal_the_direct_ones(mini_batch_size: int) -> None:
    """Whatever the mini-batches, the loss and every parameter's gradient are those of one graph over all rows."""
    rows = torch.randn(12, 3, generator=torch.Generator().manual_seed(1))
    direct, cached = encoder(), encoder()
    expected = every_row_with_every_other(direct(rows))
    expected.backward()
    found = cached_backward(rows.split(mini_batch_size), cached, every_row_with_every_other)

    torch.testing.assert_close(found, expected.detach())
    for ours, theirs in zip(cached.parameters(), direct.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_dropout_is_the_same_in_both_passes() -> None:
    """With dropout, the gradients are those of the loss that was returned: of the same rows dropped out in the same places."""
    rows = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    direct, cached = encoder(0.5), encoder(0.5)
    torch.manual_seed(2)
    expected = every_row_with_every_other(torch.cat([direct(part) for part in rows.split(2)]))
    expected.backward()
    after = torch.rand(1)
    torch.manual_seed(2)
    found = cached_backward(rows.split(2), cached, every_row_with_every_other)

    torch.testing.assert_close(found, expected.detach())
    assert torch.equal(torch.rand(1), after)
    for ours, theirs in zip(cached.parameters(), direct.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_gradients_are_added() -> None:
    """Gradients that were there already are kept."""
    rows = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    once, twice = encoder(), encoder()
    cached_backward(rows.split(2), once, every_row_with_every_other)
    for _ in range(2):
        cached_backward(rows.split(2), twice, every_row_with_every_other)

    torch.testing.assert_close(twice[0].weight.grad, 2 * once[0].weight.grad)


def most_rows_alive(batch_size: int) -> int:
    """Return the greatest number of rows whose activations were kept for a backward pass at one time."""
    alive = most = 0

    class Kept:
        """Stands for a tensor that a graph keeps."""

        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor

    def forget(num_rows: int) -> None:
        nonlocal alive
        alive -= num_rows

    def pack(tensor: Tensor) -> Any:
        nonlocal alive, most
        if not (tensor.ndim == 2 and tensor.shape[1] == 16 and not isinstance(tensor, nn.Parameter)):
            return tensor
        kept = Kept(tensor)
        alive += len(tensor)
        most = max(most, alive)
        weakref.finalize(kept, forget, len(tensor))
        return kept

    def unpack(kept: Any) -> Tensor:
        return kept.tensor if isinstance(kept, Kept) else kept

    rows = torch.randn(batch_size, 3, generator=torch.Generator().manual_seed(1))
    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        cached_backward(rows.split(4), encoder(), every_row_with_every_other)
    return most


def test_memory_is_constant_in_the_batch_size() -> None:
    """Sixteen times as many rows keep no more activations alive at one time, which are those of one mini-batch."""
    few, many = most_rows_alive(8), most_rows_alive(128)

    # Of a mini-batch's four rows, Tanh keeps its output and the next layer its input.
    assert few == many
    assert 4 <= many <= 12
