"""Reads JSON as lines of "path.to.key: value"; the rows of .jsonl files, which are documents, are read by jsonl.py."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from indexers.loaders.builder import BLANK_LINE, DocumentBuilder
from indexers.loaders.text import decode, one_line
from rag_server.errors import DocumentError
from rag_server.types import Document

# Parsed, JSON takes about ten times its size.
MAX_BYTES = 100 * 1024 * 1024
# They are repeated with each value; those next to it say most.
MAX_KEYS_CHARS = 200
TITLE_KEYS = ("title", "name")


def load(path: Path) -> Document:
    """Read a .json or .ndjson file; its title is its top-level "title" or "name"."""
    value = read(path)
    builder = DocumentBuilder()
    try:
        for record in value if isinstance(value, list) else [value]:
            for number, line in enumerate(_lines("", record)):
                # The fields of a record stand together.
                builder.add(line, "\n" if number else BLANK_LINE)
    except RecursionError as error:
        raise _unusable(path, error) from error
    titles = [value[key] for key in TITLE_KEYS if isinstance(value.get(key), str)] if isinstance(value, dict) else []
    return builder.build(path, titles[0] if titles else "")


def read(path: Path) -> Any:
    """Return the value that a file holds, or the list of the values on its lines."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        limit = MAX_BYTES // 1024**2
        raise DocumentError(f"{path} holds {size // 1024**2} MB of JSON, more than {limit} MB; split it into rows of a .jsonl")
    text = decode(path, path.read_bytes())
    if not text.strip():
        raise DocumentError(f"{path} holds no text")
    try:
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            if error.msg != "Extra data":
                raise
            return [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError) as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: Exception) -> DocumentError:
    return DocumentError(f"{path} is not usable JSON ({one_line(error)}); correct it or save it as .txt")


def _lines(prefix: str, value: Any) -> Iterator[str]:
    """Yield the values within `value` with the keys that lead to each; what is empty yields nothing."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _lines((f"{prefix}.{key}" if prefix else key)[-MAX_KEYS_CHARS:], inner)
    elif isinstance(value, list):
        # Numbers of items would be noise to a search.
        for inner in value:
            yield from _lines(prefix, inner)
    elif value is not None and str(value).strip():
        written = value.strip() if isinstance(value, str) else json.dumps(value)
        yield f"{prefix}: {written}" if prefix else written
