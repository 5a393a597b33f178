"""Tells what was indexed already: hashes of files and documents, with the settings that they were cut by."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from rag_server.config import ChunkingSettings
from rag_server.types import Document

READ_BYTES = 1 << 20


def file_fingerprint(path: Path, chunking: ChunkingSettings) -> str:
    """Return a hash of the file's bytes and of everything else that decides what is stored of it."""
    with path.open("rb") as file:
        return fingerprint_of(parts_of(file), chunking)


def fingerprint_of(parts: Iterable[bytes], chunking: ChunkingSettings) -> str:
    """Return the hash of a file whose bytes come in parts."""
    digest = hashlib.sha256(chunking.model_dump_json().encode())
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def parts_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield what is left of a file, READ_BYTES at a time."""
    while part := file.read(READ_BYTES):
        yield part


def content_hash_of(document: Document, chunking: ChunkingSettings) -> str:
    """Return a hash of a document and of how it is cut; what has the same need not be embedded again."""
    sections = [[section.start, section.kind, section.label, section.level] for section in document.sections]
    content = [document.title, document.text, dict(document.attributes), sections, chunking.model_dump()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
