"""Models as training takes them."""

from typing import Any

import pytest
from transformers import AutoModelForCausalLM, LlamaConfig

from rag_server.learning.models import compile_layers, with_adapter
from rag_server.learning.options import AdapterOptions


# torch's own, when it loads its compiler.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")
def test_the_layers_are_compiled_and_nothing_else() -> None:
    """Each layer, its adapter inside, runs by what is compiled of it; names of weights stay, as checkpoints have them."""
    kind: Any = AutoModelForCausalLM
    config = LlamaConfig(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=3, num_attention_heads=2)
    model = with_adapter(kind.from_config(config), AdapterOptions(rank=2), seed=0)
    before = list(model.state_dict())
    compile_layers(model)
    compiled = [name for name, module in model.named_modules() if module._compiled_call_impl is not None]

    assert compiled == [f"base_model.model.model.layers.{number}" for number in range(3)]
    assert list(model.state_dict()) == before
