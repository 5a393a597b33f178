"""Runs an encoder on a processor as one recorded graph: of a short text the Python between its layers costs most."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from indexers.bfloat16 import PROBES

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

    from rag_server.types import Vectors

# What they compute turns on a text's length and padding alone, so that what was recorded with one holds for all.
FAMILIES = ("bert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta")
OUTPUT = "last_hidden_state"
# The operations are the same.
MOST_DIFFERENCE = 1e-5


def trace(model: "SentenceTransformer") -> bool:
    """Have the encoder run as TorchScript, one call without Python's lock; return whether it does.

    It does on a processor, for these families, where the vectors agree; otherwise everything stays as it is. TorchScript is not
    developed any more, but recording takes a moment, where `torch.compile` takes a C++ compiler and a minute at each start.
    """
    transformer: Any = model[0]
    encoder = transformer.model
    known = getattr(encoder.config, "model_type", None) in FAMILIES
    if model.device.type != "cpu" or not known or transformer.modality_config["text"]["method_output_name"] != OUTPUT:
        return False
    before = _rows(model)
    try:
        encoder.forward = _recorded(encoder, model.preprocess(list(PROBES[:2])))
        if np.abs(_rows(model) - before).max() <= MOST_DIFFERENCE:
            return True
    # Of an operation that cannot be recorded, or that does not take other lengths.
    except RuntimeError:
        pass
    vars(encoder).pop("forward", None)
    return False


def _recorded(encoder: Any, example: Mapping[str, Any]) -> Any:
    """Return a function like the encoder's `forward`."""
    import torch

    given = {name: value for name, value in example.items() if isinstance(value, torch.Tensor)}

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, *values: "torch.Tensor") -> Any:
            return self.encoder(**dict(zip(given, values, strict=True)), return_dict=False)[0]

    # Recording looks at every attribute, and an encoder that has no loss complains of it.
    encoder.loss_function = None
    with torch.inference_mode(), warnings.catch_warnings():
        # That it is not developed any more, and that a length might be taken for a constant, which is looked at.
        warnings.simplefilter("ignore")
        graph = torch.jit.trace(Encoder(), tuple(given.values()), check_trace=False)  # type: ignore[no-untyped-call]

    def forward(**features: Any) -> dict[str, Any]:
        return {OUTPUT: graph(*(features[name] for name in given))}

    return forward


def _rows(model: "SentenceTransformer") -> "Vectors":
    """Return the vectors of probes, alone and together: of other numbers and lengths than were recorded."""
    alone: Vectors = model.encode(list(PROBES), batch_size=1, show_progress_bar=False)
    together: Vectors = model.encode(list(PROBES), show_progress_bar=False)
    return np.concatenate([alone, together]).astype(np.float32)
