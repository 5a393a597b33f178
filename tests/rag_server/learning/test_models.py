"""Models as training takes them."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from rag_server.errors import ConfigError, UnsupportedModelError
from rag_server.learning.arguments import adapter_options, add_training_arguments
from rag_server.learning.models import compile_layers, with_adapter
from rag_server.learning.options import AdapterOptions
from rag_server.learning.record import save_adapter


def _model(hidden_size: int = 8) -> Any:
    kind: Any = AutoModelForCausalLM
    sizes = {"vocab_size": 20, "hidden_size": hidden_size, "intermediate_size": 8, "num_attention_heads": 2}
    torch.manual_seed(0)
    return kind.from_config(LlamaConfig(num_hidden_layers=3, **sizes))


def _saved_adapter(folder: Path) -> dict[str, torch.Tensor]:
    """Save an adapter that is not zero, and return its weights."""
    model = with_adapter(_model(), AdapterOptions(rank=2, alpha=7), seed=5)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    save_adapter(model, folder)
    return {name: one.detach().float() for name, one in model.named_parameters() if one.requires_grad}


# torch's own, when it loads its compiler.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")
def test_the_layers_are_compiled_and_nothing_else() -> None:
    """Each layer, its adapter inside, runs by what is compiled of it; names of weights stay, as checkpoints have them."""
    model = with_adapter(_model(), AdapterOptions(rank=2), seed=0)
    before = list(model.state_dict())
    compile_layers(model)
    compiled = [name for name, module in model.named_modules() if module._compiled_call_impl is not None]

    assert compiled == [f"base_model.model.model.layers.{number}" for number in range(3)]
    assert list(model.state_dict()) == before


def test_an_adapter_is_trained_further_from_what_it_is(tmp_path: Path) -> None:
    """Its weights are those that were saved, to be trained and in single precision; its rank and alpha are its own."""
    saved = _saved_adapter(tmp_path)
    model = with_adapter(_model(), AdapterOptions(start=tmp_path), seed=1)
    trained = {name: one for name, one in model.named_parameters() if one.requires_grad}

    assert trained.keys() == saved.keys()
    assert all(one.dtype == torch.float32 for one in trained.values())
    assert all(torch.equal(one, saved[name]) for name, one in trained.items())
    config = model.peft_config["default"]
    assert (config.r, config.lora_alpha) == (2, 7)


def test_what_is_no_adapter_of_the_model_is_not_started_from(tmp_path: Path) -> None:
    """Neither a folder without one, nor the adapter of another model, nor pickled weights."""
    _saved_adapter(tmp_path)

    with pytest.raises(UnsupportedModelError, match="no adapter: name a folder"):
        with_adapter(_model(), AdapterOptions(start=tmp_path / "none"), seed=0)
    with pytest.raises(UnsupportedModelError, match="no adapter of this model"):
        with_adapter(_model(hidden_size=16), AdapterOptions(start=tmp_path), seed=0)
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(UnsupportedModelError, match="with adapter_model"):
        with_adapter(_model(), AdapterOptions(start=tmp_path), seed=0)


def test_an_adapter_to_start_from_keeps_its_shape() -> None:
    """Options of a new adapter beside it would do nothing, and are refused."""
    parser = argparse.ArgumentParser()
    add_training_arguments(parser)

    assert adapter_options(parser.parse_args(["--out", "o", "--start", "a"])) == AdapterOptions(start=Path("a"))
    with pytest.raises(ConfigError, match="leave out --rank"):
        adapter_options(parser.parse_args(["--out", "o", "--start", "a", "--rank", "4"]))
