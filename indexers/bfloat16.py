"""Computes a model's linear layers in bfloat16 on processors that have units for it (AMX), if its vectors stay as they are."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

    from rag_server.types import Vectors

# Of a vector in bfloat16 and the same in single precision, at the least.
LEAST_COSINE = 0.9999
# Of several lengths, so that some are padded.
PROBES = (
    "A ketch has two masts.",
    "How long do cats sleep?",
    "The mast of a ketch that stands further aft is the shorter one, and it stands before the rudder post. " * 4,
)


def is_multiplied(device: "torch.device") -> bool:
    """Return whether the device is a processor that multiplies matrices in bfloat16 much faster than in single precision."""
    import torch

    # Without such units it is many times slower. Kernels take the units where their tiles are there too.
    known = torch.cpu.get_capabilities()
    return device.type == "cpu" and bool(known.get("amx_bf16")) and bool(known.get("amx_tile"))


def convert(model: "SentenceTransformer") -> bool:
    """Have the linear layers of the transformer compute in bfloat16, all else as before; return whether its vectors agree.

    A model whose vectors do not, or that does not run so, is of no more use.
    """
    import torch

    before = _unit_rows(model)
    for module in model[0].modules():
        if isinstance(module, torch.nn.Linear):
            module.to(torch.bfloat16)
            module.register_forward_pre_hook(_in_bfloat16)
    try:
        after = _unit_rows(model)
    # Some models bring what comes out of two layers together in a way that takes one precision only.
    except RuntimeError:
        return False
    return bool(np.all(np.sum(before * after, axis=1) >= LEAST_COSINE))


def _in_bfloat16(_: "torch.nn.Module", given: Sequence[Any]) -> tuple[Any, ...]:
    import torch

    return (given[0].to(torch.bfloat16), *given[1:])


def _unit_rows(model: "SentenceTransformer") -> "Vectors":
    rows: Vectors = model.encode(list(PROBES), normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(rows, dtype=np.float32)
