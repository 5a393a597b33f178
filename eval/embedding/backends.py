"""The ways to compute the packaged embedding model that are compared."""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

from indexers.sentence_embedder import packaged_folder
from rag_server.protocols import Embedder
from rag_server.types import Vectors

# What everyone uses, in single precision.
BASELINE = "sentence-transformers"
# As it comes.
BATCH_SIZE = 32
ONNX_PACKAGES = ("onnx", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Backend:
    """A way to compute unit vectors."""

    name: str
    embed: Callable[[Sequence[str]], Vectors]


def build_backends(embedder: Embedder, folder: Path) -> tuple[list[Backend], list[str]]:
    """Return the ways to compute the packaged model, and why others are left out.

    Args:
        embedder: The packaged model as the server computes it.
        folder: Where the ONNX files are, or are made.
    """
    backends = [_baseline(), Backend("rag-server", embedder.embed_passages)]
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        return backends, [f"ONNX: {' and '.join(missing)} not installed (pip install {' '.join(missing)})"]
    return [*backends, *_onnx(folder)], []


def _baseline() -> Backend:
    model = SentenceTransformer(str(packaged_folder()), device="cpu", local_files_only=True)

    def embed(texts: Sequence[str]) -> Vectors:
        rows = model.encode(list(texts), batch_size=BATCH_SIZE, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(rows, dtype=np.float32)

    return Backend(BASELINE, embed)


def _onnx(folder: Path) -> list[Backend]:
    from eval.embedding.onnx_model import export, open_model, quantise

    single, quantised = folder / "model.onnx", folder / "model-int8.onnx"
    if not single.is_file():
        export(packaged_folder(), single)
    if not quantised.is_file():
        quantise(single, quantised)
    tokenizer_file = packaged_folder() / "tokenizer.json"
    return [
        Backend("onnxruntime", open_model(single, tokenizer_file)),
        Backend("onnxruntime int8", open_model(quantised, tokenizer_file)),
    ]
