"""Loads a model folder for training, with a LoRA adapter of its own, in the precision that the device computes in."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_server.errors import TrainingDataError, UnsupportedModelError
from rag_server.learning.options import AdapterOptions, Precision

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Return the tokenizer of a model folder, which must be a fast one: losses go by character offsets.

    Raises:
        UnsupportedModelError: It is no model folder, or its tokenizer does not tell offsets.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UnsupportedModelError(f"{folder} has no tokenizer that can be loaded: {error}") from error
    if not tokenizer.is_fast:
        raise UnsupportedModelError(f"the tokenizer of {folder} does not tell character offsets; save it as a fast one")
    return tokenizer


def prompt_ids(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[dict[str, Any]]) -> tuple[int, ...]:
    """Return the tokens that an engine reads of a conversation, up to where the answer begins.

    Raises:
        UnsupportedModelError: The model has no chat template, or one that does not take it.
    """
    from jinja2 import TemplateError

    try:
        text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    except (ValueError, TemplateError) as error:
        raise UnsupportedModelError(f"the model cannot be asked in this format, as a conversation: {error}") from error
    return text_ids(tokenizer, str(text))


def text_ids(tokenizer: "PreTrainedTokenizerBase", text: str) -> tuple[int, ...]:
    """Return the tokens of a text without special tokens around it."""
    return tuple(map(int, tokenizer(text, add_special_tokens=False)["input_ids"]))


def load_model(folder: Path, precision: Precision = "auto") -> "PreTrainedModel":
    """Return the language model of a folder, on the GPU where there is one.

    Raises:
        UnsupportedModelError: It is no model folder, or of a kind that transformers does not know.
    """
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype_of(precision), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise UnsupportedModelError(f"{folder} is no language model that can be loaded: {error}") from error
    model.config.use_cache = False
    return model


def with_adapter(model: "PreTrainedModel", options: AdapterOptions, *, seed: int) -> "PeftModel":
    """Return the model with a LoRA adapter in single precision, drawn by the seed or given; its own weights are frozen.

    Raises:
        TrainingDataError: The model has fewer layers than are to get one.
        UnsupportedModelError: The adapter to start from is none, or not one of this model.
    """
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model

    if options.start is not None:
        return _given_adapter(model, options.start)
    depth = int(model.config.num_hidden_layers)
    num_layers = depth if options.num_layers is None else options.num_layers
    if not 0 < num_layers <= depth:
        raise TrainingDataError(f"the model has {depth} layers: adapters go into 1 to {depth} of them, not {num_layers}")
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        # Of some layers, peft takes the matrices by their names only.
        target_modules="all-linear" if num_layers == depth else _linear_names(model),
        layers_to_transform=None if num_layers == depth else list(range(depth - num_layers, depth)),
    )
    torch.manual_seed(seed)
    adapted = get_peft_model(model, config)
    if not isinstance(adapted, PeftModel):
        raise TypeError(f"peft made a {type(adapted).__name__}")
    return adapted


def _given_adapter(model: "PreTrainedModel", folder: Path) -> "PeftModel":
    from peft import PeftModel

    # Peft would look for what is not there on the network, and take pickled weights instead, which may run programs.
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            raise UnsupportedModelError(f"{folder} is no adapter: name a folder with {name}")
    try:
        return PeftModel.from_pretrained(model, str(folder), is_trainable=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise UnsupportedModelError(f"{folder} is no adapter of this model: {error}") from error


def compile_layers(model: "PreTrainedModel | PeftModel") -> None:
    """Have the layers compiled at their first call, once for all lengths of texts; a loss and its weights stay what they are.

    The layers alone: what is around them in a model of some adapters differs from family to family.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.compile(dynamic=True)


def _linear_names(model: Any) -> list[str]:
    """Return what the matrices of a layer are called."""
    import torch

    output = model.get_output_embeddings()
    linear = (name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and module is not output)
    return sorted({name.rpartition(".")[2] for name in linear})


def dtype_of(precision: Precision) -> "torch.dtype":
    """Return what weights are kept and multiplied in."""
    import torch

    if precision == "auto":
        return torch.bfloat16 if _computes_in_bfloat16() else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def _computes_in_bfloat16() -> bool:
    """Return whether bfloat16 is faster here: on CPUs without instructions for it, it takes several times as long."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu.get_capabilities().get("amx_bf16") or torch.cpu.get_capabilities().get("avx512_bf16"))
