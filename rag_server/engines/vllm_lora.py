"""Has vLLM compute LoRA adapters on a CPU as matrix products: its own operations copy the adapter's weights for every token.

vLLM calls `register` in each of its processes, as a plugin named in pyproject.toml.
"""

from collections.abc import Iterator

import torch


def register() -> None:
    """Put the operations into the place of those that vLLM's CPU build uses, and nothing else does."""
    from vllm.lora.punica_wrapper import punica_cpu

    vars(punica_cpu).update(sgmv_shrink=shrink, sgmv_expand_slice=expand_slice)


def shrink(
    inputs: torch.Tensor,
    weights: torch.Tensor,
    outputs: torch.Tensor,
    starts: torch.Tensor,
    lengths: torch.Tensor,
    places: torch.Tensor,
    num_runs: int,
    max_length: int,
    num_tokens: int,
    scaling: float,
) -> None:
    """Write `scaling` times the product of each token with the first matrix of its adapter.

    Args:
        inputs: (tokens, inputs).
        weights: (adapters, 1, rank, inputs).
        outputs: (tokens, at least rank); the rows of tokens without an adapter become 0.
        starts: The first token of each run of tokens with the same adapter.
        lengths: The tokens of each run.
        places: The adapter of each run, -1 for none.
        num_runs: Unused, as are the next two: what vLLM hands over.
        max_length: Unused.
        num_tokens: Unused.
        scaling: A factor.
    """
    del num_runs, max_length, num_tokens
    for rows, place in _runs(starts, lengths, places):
        if place < 0:
            outputs[rows] = 0
            continue
        matrix = weights[place, 0].to(outputs.dtype)
        outputs[rows, : matrix.shape[0]] = scaling * (inputs[rows].to(outputs.dtype) @ matrix.T)


def expand_slice(
    inputs: torch.Tensor,
    weights: torch.Tensor,
    outputs: torch.Tensor,
    starts: torch.Tensor,
    lengths: torch.Tensor,
    places: torch.Tensor,
    num_runs: int,
    max_length: int,
    num_tokens: int,
    offset: int,
    size: int,
    add_inputs: bool = False,
) -> None:
    """Add the product of each token with the second matrix of its adapter to columns of the output, or write it there.

    Args:
        inputs: (tokens, rank), as `shrink` left them.
        weights: (adapters, 1, size, rank).
        outputs: (tokens, columns); those of tokens without an adapter stay as they are.
        starts: As for `shrink`.
        lengths: As for `shrink`.
        places: As for `shrink`.
        num_runs: Unused, as are the next two.
        max_length: Unused.
        num_tokens: Unused.
        offset: The first column.
        size: The number of columns.
        add_inputs: Whether to add.
    """
    del num_runs, max_length, num_tokens
    for rows, place in _runs(starts, lengths, places):
        if place < 0:
            continue
        product = inputs[rows].to(outputs.dtype) @ weights[place, 0].to(outputs.dtype).T
        columns = slice(offset, offset + size)
        outputs[rows, columns] = outputs[rows, columns] + product if add_inputs else product


def _runs(starts: torch.Tensor, lengths: torch.Tensor, places: torch.Tensor) -> Iterator[tuple[slice, int]]:
    for start, length, place in zip(starts.tolist(), lengths.tolist(), places.tolist(), strict=True):
        yield slice(start, start + length), place
