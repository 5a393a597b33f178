"""Folders with models: what in them decides what the model says, and copies without anything else."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from rag_server.engines.adapters import is_adapter, read_adapter
from rag_server.errors import UnsupportedModelError
from rag_server.model_evaluation import ModelKind

# Nothing that runs programs when it is read, as pickles do.
KEPT_SUFFIXES = (".safetensors", ".json", ".jinja", ".txt", ".model", ".md")
# Of the files, those without which the model would say the same are left out.
DECISIVE_NAMES = (
    "adapter_config.json",
    "chat_template.jinja",
    "config.json",
    "config_sentence_transformers.json",
    "generation_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
# What a training run leaves beside its model.
CHECKPOINTS = "checkpoint-"


def check_model(folder: Path, kind: ModelKind) -> None:
    """Make sure that the folder holds a model that can be used as one of that kind.

    Raises:
        UnsupportedModelError: It does not; the message says what is missing.
    """
    if kind in ("answerer", "ranker") and is_adapter(folder):
        read_adapter(folder)
        return
    needed = "modules.json" if kind == "embedder" else "config.json"
    if not (folder / needed).is_file():
        raise UnsupportedModelError(f"{folder} is no model folder for a model of kind {kind}: it has no {needed}")
    if not any(path.suffix == ".safetensors" for path in model_files(folder)):
        raise UnsupportedModelError(f"{folder} has no weights in safetensors, and others may run programs: save it as such")


def model_files(folder: Path) -> Iterator[Path]:
    """Yield the files of the model, relative to the folder, in the order of their names."""
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        left_out = any(part.startswith((CHECKPOINTS, ".")) for part in relative.parts)
        if path.suffix in KEPT_SUFFIXES and path.is_file() and not left_out:
            yield relative


def fingerprint_of(folder: Path) -> str:
    """Return a SHA-256 of everything that decides what the model says: its weights, its tokenizer, its configuration."""
    digest = hashlib.sha256()
    for relative in model_files(folder):
        if relative.suffix == ".safetensors" or relative.name in DECISIVE_NAMES:
            with (folder / relative).open("rb") as file:
                digest.update(f"{relative.as_posix()} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def copy_model(folder: Path, target: Path) -> None:
    """Copy the model's files to a new folder, on the disk when this returns."""
    target.mkdir()
    for relative in model_files(folder):
        copied = target / relative
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / relative, copied)
        sync(copied)
    for made in (*(path for path in target.rglob("*") if path.is_dir()), target):
        sync(made)


def sync(path: Path) -> None:
    """Have a file, or a folder's list of files, written to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
