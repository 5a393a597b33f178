"""Keeps what a training run made, and everything that is needed to make it again."""

import hashlib
import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rag_server.learning.options import TrainingOptions

RECORD_FILE = "training.json"


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_adapter(model: Any, folder: Path) -> None:
    """Write a PeftModel's adapter as safetensors, in the precision that engines serve it in."""
    import torch

    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "lora_" in name:
            parameter.data = parameter.data.to(torch.bfloat16)
    model.save_pretrained(folder, safe_serialization=True)
    # It says that the file is a model card, and nothing of the model.
    (folder / "README.md").unlink(missing_ok=True)


def write_record(out: Path, facts: Mapping[str, Any], options: TrainingOptions) -> None:
    """Write the command, the options and the facts beside what was made."""
    record = {"command": shlex.join(sys.argv), "options": asdict(options), **facts}
    (out / RECORD_FILE).write_text(json.dumps(record, default=str, indent=2) + "\n")
