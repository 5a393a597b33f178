"""The packaged embedding model as an ONNX file, run by onnxruntime in single precision or in int8."""

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from rag_server.types import Vectors

OPSET = 17
# As sentence-transformers takes them.
BATCH_SIZE = 32
# Of a text with its special tokens, as the packaged model is configured.
MAX_TOKENS = 256
INPUTS = ("input_ids", "attention_mask")


class _UnitVectors(torch.nn.Module):
    """The model with its pooling: from token ids and mask to unit vectors."""

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return a row for each text."""
        hidden = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


def export(folder: Path, path: Path) -> None:
    """Write the model of a folder, whose vectors are means over its tokens, as an ONNX file."""
    modules: Any = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    transformer = modules[0].auto_model.eval()
    # Another one asks for the mask's values while it is traced.
    transformer.set_attn_implementation("eager")
    mask = torch.ones((2, 8), dtype=torch.long)
    mask[1, 4:] = 0
    axes = {name: {0: "text", 1: "token"} for name in INPUTS}
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _UnitVectors(transformer).eval(),
            (torch.ones_like(mask), mask),
            str(path),
            input_names=list(INPUTS),
            output_names=["vector"],
            dynamic_axes={**axes, "vector": {0: "text"}},
            opset_version=OPSET,
            dynamo=False,
        )


def quantise(path: Path, quantised: Path) -> None:
    """Write the model with its weights in int8; activations are brought to int8 as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(path, quantised, weight_type=QuantType.QInt8, per_channel=True)


def open_model(path: Path, tokenizer_file: Path) -> Callable[[Sequence[str]], Vectors]:
    """Return what embeds texts with the model in that file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding()

    def embed(texts: Sequence[str]) -> Vectors:
        order = np.argsort([len(text) for text in texts])
        rows: list[Any] = [None] * len(texts)
        for first in range(0, len(order), BATCH_SIZE):
            places = order[first : first + BATCH_SIZE].tolist()
            encoded = tokenizer.encode_batch([texts[place] for place in places])
            inputs = {
                "input_ids": np.array([one.ids for one in encoded], dtype=np.int64),
                "attention_mask": np.array([one.attention_mask for one in encoded], dtype=np.int64),
            }
            for place, row in zip(places, session.run(None, inputs)[0], strict=True):
                rows[place] = row
        return np.stack(rows).astype(np.float32)

    return embed
