"""What an LLM embedder's folder says beside the weights: how texts become vectors, in the files of sentence-transformers."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Pooling = Literal["mean", "weighted_mean", "last", "first"]
Attention = Literal["bidirectional", "causal"]
TextKind = Literal["query", "passage"]

SENTENCE_TRANSFORMERS_POOLING = {"mean": "mean", "weighted_mean": "weightedmean", "last": "lasttoken", "first": "cls"}
TRANSFORMER_FILE = "sentence_bert_config.json"
PROMPTS_FILE = "config_sentence_transformers.json"
POOLING_FOLDER = "1_Pooling"
NORMALIZE = "sentence_transformers.models.Normalize"


@dataclass(frozen=True, slots=True)
class EmbedderOptions:
    """What decides a text's vector beside the weights.

    The prompts stand before the text and are not pooled; they should end with a line break, so that no token spans their end.
    `max_tokens` counts them too; what is beyond is not read.
    """

    pooling: Pooling = "mean"
    attention: Attention = "bidirectional"
    query_prompt: str = "Find passages that answer the question.\nQuestion:\n"
    passage_prompt: str = "Passage:\n"
    max_tokens: int = 512


def prompts(options: EmbedderOptions) -> dict[TextKind, str]:
    """Return what stands before a text, by its kind."""
    return {"query": options.query_prompt, "passage": options.passage_prompt}


def write_modules(folder: Path, options: EmbedderOptions, dimension: int, *, is_adapted: bool) -> None:
    """Write what sentence-transformers reads beside the weights and the tokenizer."""
    # By its own name, a plain sentence-transformers refuses the folder, which it would open without what the adapter needs.
    transformer = "indexers.llm_embedder.open_adapted" if is_adapted else "sentence_transformers.models.Transformer"
    types = {"": transformer, POOLING_FOLDER: "sentence_transformers.models.Pooling", "2_Normalize": NORMALIZE}
    modules = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(types.items())]
    write_json(folder / "modules.json", modules)
    write_json(
        folder / TRANSFORMER_FILE,
        {
            "max_seq_length": options.max_tokens,
            "transformer_task": "feature-extraction",
            # Texts go in as they are, also where the tokenizer has a chat template.
            "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
            "module_output_name": "token_embeddings",
        },
    )
    pooling = SENTENCE_TRANSFORMERS_POOLING[options.pooling]
    (folder / POOLING_FOLDER).mkdir(exist_ok=True)
    write_json(
        folder / POOLING_FOLDER / "config.json",
        {"embedding_dimension": dimension, "pooling_mode": pooling, "include_prompt": False},
    )
    (folder / "2_Normalize").mkdir(exist_ok=True)
    by_task = {"query": options.query_prompt, "document": options.passage_prompt}
    write_json(
        folder / PROMPTS_FILE,
        {"prompts": by_task, "default_prompt_name": None, "similarity_fn_name": "cosine", "model_type": "SentenceTransformer"},
    )


def write_json(path: Path, value: object) -> None:
    """Write a file of a model folder."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Return what a file of a model folder holds."""
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value
