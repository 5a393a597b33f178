"""LoRA as matrix products, held against vLLM's own operations and against what each token asks for."""

import tomllib
from pathlib import Path

import pytest
import torch
from vllm.lora.ops.torch_ops import lora_ops
from vllm.lora.punica_wrapper import punica_cpu

from rag_server.engines import vllm_lora

ROOT = Path(__file__).parents[3]
INPUTS, RANK, OUTPUTS, ADAPTERS = 6, 3, 5, 4
# Runs of tokens: two with one adapter, one with another, the first again.
LENGTHS, PLACES = (2, 1, 3), (1, 3, 1)


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape) + sum(shape)))


def metadata(places: tuple[int, ...] = PLACES) -> tuple[object, ...]:
    """What vLLM hands over of the runs."""
    lengths = torch.tensor(LENGTHS)
    starts = torch.cumsum(lengths, 0) - lengths
    return starts, lengths, torch.tensor(places), len(places), max(LENGTHS), sum(LENGTHS)


def test_shrinking_is_vllms() -> None:
    """The same numbers come out as of vLLM's operation."""
    inputs, weights = numbers(6, INPUTS), numbers(ADAPTERS, 1, RANK, INPUTS)
    ours, theirs = torch.zeros(6, RANK), torch.zeros(6, RANK)
    vllm_lora.shrink(inputs, weights, ours, *metadata(), 0.5)
    lora_ops.sgmv_shrink(inputs, weights, theirs, *metadata(), 0.5)

    assert torch.allclose(ours, theirs, atol=1e-5)
    assert ours.abs().min() > 0


@pytest.mark.parametrize("add_inputs", [True, False])
def test_expanding_is_vllms(add_inputs: bool) -> None:
    """The same columns change in the same way, in bfloat16 too, and the others stay."""
    inputs, weights = numbers(6, RANK), numbers(ADAPTERS, 1, OUTPUTS, RANK).to(torch.bfloat16)
    ours, theirs = torch.ones(6, 9), torch.ones(6, 9)
    vllm_lora.expand_slice(inputs, weights, ours, *metadata(), 2, OUTPUTS, add_inputs)
    lora_ops.sgmv_expand_slice(inputs, weights, theirs, *metadata(), 2, OUTPUTS, add_inputs)

    assert torch.allclose(ours, theirs, atol=1e-5)
    assert torch.equal(ours[:, :2], torch.ones(6, 2))


def test_token_without_adapter_stays_as_it_is() -> None:
    """Beside tokens with an adapter, one without gets nothing of any, though the last place holds one."""
    inputs, halves = numbers(6, INPUTS), (numbers(ADAPTERS, 1, RANK, INPUTS), numbers(ADAPTERS, 1, OUTPUTS, RANK))
    between, outputs = torch.full((6, RANK), 7.0), torch.ones(6, OUTPUTS)
    vllm_lora.shrink(inputs, halves[0], between, *metadata((1, -1, 1)), 1.0)
    vllm_lora.expand_slice(between, halves[1], outputs, *metadata((1, -1, 1)), 0, OUTPUTS, True)
    expected = 1 + inputs @ halves[0][1, 0].T @ halves[1][1, 0].T

    assert torch.equal(outputs[2], torch.ones(OUTPUTS))
    assert torch.allclose(outputs[[0, 1, 3, 4, 5]], expected[[0, 1, 3, 4, 5]], atol=1e-5)


def test_vllm_uses_them_where_it_runs_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names that vLLM's CPU wrapper calls are there to be replaced, and are."""
    for name in ("sgmv_shrink", "sgmv_expand_slice"):
        monkeypatch.setattr(punica_cpu, name, getattr(punica_cpu, name))
    vllm_lora.register()

    assert (punica_cpu.sgmv_shrink, punica_cpu.sgmv_expand_slice) == (vllm_lora.shrink, vllm_lora.expand_slice)


def test_vllm_is_told_of_it() -> None:
    """The package names the function as a plugin of vLLM, which calls it in each of its processes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert project["entry-points"]["vllm.general_plugins"] == {"rag_server_lora": "rag_server.engines.vllm_lora:register"}
