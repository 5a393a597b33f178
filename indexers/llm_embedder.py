"""A decoder language model as an embedder: attention both ways for encoding, causal for generation, on one set of weights.

Its folder is a sentence-transformers folder of that library's own modules: `is_causal: false` in its config.json is how
transformers is told to attend both ways. One whose adapter was kept apart is opened here.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from indexers.llm_embedder_folder import (
    POOLING_FOLDER,
    PROMPTS_FILE,
    TRANSFORMER_FILE,
    EmbedderOptions,
    Pooling,
    TextKind,
    prompts,
    read_json,
    write_json,
    write_modules,
)
from rag_server.errors import ConfigError, UnsupportedModelError
from rag_server.types import Vectors

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# By the `model_type` of config.json. SmolLM and Mistral's later models are of Llama's and Mistral's types.
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "phi", "phi3", "gemma", "gemma2", "gemma3_text")
# Padded tokens in one forward pass when encoding; a longer text goes alone.
BATCH_TOKENS = 8192
ADAPTER_FILE = "adapter_config.json"


class Tokens(NamedTuple):
    """A text after its prompt, cut to what is read; the first `prompt_length` tokens are not pooled."""

    ids: list[int]
    prompt_length: int


Features = dict[str, "torch.Tensor"]


class LlmEmbedder:
    """A causal language model, with or without a LoRA adapter, that also encodes; `model` itself goes on generating."""

    def __init__(self, model: Any, tokenizer: "PreTrainedTokenizerBase", options: EmbedderOptions) -> None:
        """Make the model encode as the options say.

        Args:
            model: A PreTrainedModel with a language-modelling head, or a PeftModel of one.
            tokenizer: The model's own; it is made to pad on the right.
            options: How texts become vectors.

        Raises:
            UnsupportedModelError: The model is of a family that is not known to attend both ways.
            ConfigError: A prompt alone is as long as `max_tokens`, or the model cannot read as many.
        """
        from transformers import GenerationConfig

        self.model = model
        self.tokenizer = tokenizer
        self.options = options
        check_family(model.config.model_type)
        if hasattr(model.config, "is_causal"):
            # From a folder that was saved here: this instance generates too, so each call says how it attends.
            del model.config.is_causal
        # Some models come with settings for sampling that transformers refuses to write again.
        self.language_model.generation_config = GenerationConfig.from_model_config(self.language_model.config)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = "right"
        self._prompt_lengths = {kind: self._prompt_length(prompt) for kind, prompt in prompts(options).items()}
        longest = max(self._prompt_lengths.values())
        if not longest < options.max_tokens <= model.config.max_position_embeddings:
            raise ConfigError(
                f"the embedder cannot read {options.max_tokens} tokens of a text: the longest prompt has {longest}, and the "
                f"model reads up to {model.config.max_position_embeddings}"
            )

    @property
    def language_model(self) -> "PreTrainedModel":
        """The model with its head; an adapter is inside of it."""
        peeled: PreTrainedModel = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        return peeled

    @property
    def dimension(self) -> int:
        """The number of columns of a vector."""
        return int(self.model.config.hidden_size)

    def tokens(self, texts: Sequence[str], kind: TextKind) -> list[Tokens]:
        """Return the tokens of each text after the prompt of its kind."""
        if not texts:
            return []
        prompt = prompts(self.options)[kind]
        encoded = self.tokenizer([prompt + text for text in texts], truncation=True, max_length=self.options.max_tokens)
        return [Tokens(ids, self._prompt_lengths[kind]) for ids in encoded["input_ids"]]

    def padded(self, rows: Sequence[Tokens]) -> Features:
        """Return the rows as tensors, on the CPU: input_ids and attention_mask (rows, longest), prompt_lengths (rows,)."""
        import torch

        padded = self.tokenizer.pad({"input_ids": [row.ids for row in rows]}, return_tensors="pt")
        return {
            "input_ids": padded["input_ids"],
            "attention_mask": padded["attention_mask"],
            "prompt_lengths": torch.tensor([row.prompt_length for row in rows]),
        }

    def vectors(self, features: Features) -> "torch.Tensor":
        """Return one unit vector per row, (rows, dimension) float32, through which gradients flow.

        A text of no token has the vector 0.
        """
        import torch

        device = self.language_model.device
        mask = features["attention_mask"].to(device)
        states = self.language_model.base_model(
            input_ids=features["input_ids"].to(device),
            attention_mask=mask,
            use_cache=False,
            is_causal=self.options.attention == "causal",
        ).last_hidden_state
        pooled_states = pooled(states, mask, features["prompt_lengths"].to(device), self.options.pooling)
        return torch.nn.functional.normalize(pooled_states, dim=-1)

    def encode(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """Return one unit vector per text, (len(texts), dimension) float32, without dropout."""
        import torch

        rows = self.tokens(texts, kind)
        encoded = np.zeros((len(rows), self.dimension), np.float32)
        was_training = self.model.training
        self.model.eval()
        with torch.inference_mode():
            for batch in batches_by_length([len(row.ids) for row in rows], BATCH_TOKENS):
                encoded[batch] = self.vectors(self.padded([rows[i] for i in batch])).cpu().numpy()
        self.model.train(was_training)
        return encoded

    def save(self, folder: Path, *, keep_adapter: bool = False) -> None:
        """Write a sentence-transformers folder, an adapter merged into the weights (of this instance too) or kept apart.

        A folder with its adapter apart names the folder of the base model, which must stay; only SentenceEmbedder opens it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        is_adapted = hasattr(self.model, "merge_and_unload")
        if is_adapted and not keep_adapter:
            self.model = self.model.merge_and_unload()
            is_adapted = False
        self.model.save_pretrained(folder)
        config = {**self.model.config.to_dict(), "is_causal": self.options.attention == "causal"}
        write_json(folder / "config.json", config)
        self.tokenizer.save_pretrained(folder)
        write_modules(folder, self.options, self.dimension, is_adapted=is_adapted)

    def _prompt_length(self, prompt: str) -> int:
        """Count the tokens as sentence-transformers does: a special token at the end is the text's, not the prompt's."""
        if not prompt:
            return 0
        ids: list[int] = self.tokenizer(prompt)["input_ids"]
        return len(ids) - (ids[-1] in self.tokenizer.all_special_ids)


def check_family(model_type: str) -> None:
    """Make sure that models of this type attend both ways when they are told to.

    Raises:
        UnsupportedModelError: They are not known to.
    """
    if model_type not in FAMILIES:
        raise UnsupportedModelError(
            f"a model of type {model_type!r} is not known to attend both ways; take one of {', '.join(FAMILIES)}"
        )


def pooled(
    states: "torch.Tensor", attention_mask: "torch.Tensor", prompt_lengths: "torch.Tensor", pooling: Pooling
) -> "torch.Tensor":
    """Return one float32 row of the last layer's states for each text, its prompt and padding on either side left out.

    Args:
        states: (texts, tokens, dimension).
        attention_mask: (texts, tokens), 0 for padding.
        prompt_lengths: (texts,), the tokens at each text's beginning that do not count.
        pooling: A weighted mean's weights are the tokens' positions in the text, counted from 1 and the prompt included.
    """
    positions = attention_mask.cumsum(dim=1) * attention_mask
    weights = ((positions > prompt_lengths[:, None]) & (positions > 0)).float()
    if pooling == "weighted_mean":
        weights = weights * positions
    elif pooling == "last":
        weights = weights * (positions == positions.amax(dim=1, keepdim=True))
    elif pooling == "first":
        weights = weights * (positions == prompt_lengths[:, None] + 1)
    total = weights.sum(dim=1, keepdim=True).clamp(min=1)
    return (states.float() * (weights / total)[:, :, None]).sum(dim=1)


def batches_by_length(lengths: Sequence[int], max_padded_tokens: int) -> list[list[int]]:
    """Return the texts' indices in batches of similar length, the longest first, each of few enough tokens with its padding."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= max_padded_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def open_adapted(folder: Path, device: str | None) -> "SentenceTransformer":
    """Load a folder whose adapter was kept apart, the adapter merged into the base model's weights in memory.

    Raises:
        ValueError, OSError: It is no such folder, or the base model is not where it was.
    """
    import torch
    from peft import PeftConfig, PeftModel
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import AutoModelForCausalLM

    adapter = PeftConfig.from_pretrained(str(folder))
    base = str(adapter.base_model_name_or_path)
    if not Path(base).is_dir():
        raise OSError(f"the base model of its adapter is not in {base}")
    tokenizer: dict[str, Any] = {"padding_side": "right", "local_files_only": True}
    module = Transformer(base, **read_json(folder / TRANSFORMER_FILE), processor_kwargs=tokenizer)
    if module.tokenizer.pad_token is None:
        module.tokenizer.pad_token = module.tokenizer.eos_token
    # The adapter was made for the model with its head, which is not needed here: on this device it takes no memory.
    whole: Any = AutoModelForCausalLM
    with torch.device("meta"):
        whole = whole.from_config(module.model.config)
    setattr(whole, whole.base_model_prefix, module.model)
    adapted: Any = PeftModel.from_pretrained(whole, str(folder))
    module.model = adapted.merge_and_unload().base_model
    module.model.config.is_causal = read_json(folder / "config.json")["is_causal"]
    modules = [module, Pooling.load(str(folder / POOLING_FOLDER)), Normalize()]
    return SentenceTransformer(modules=modules, prompts=read_json(folder / PROMPTS_FILE)["prompts"], device=device)
