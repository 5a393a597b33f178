"""Tells what was indexed already: hashes of files and documents, with the settings that they were cut by."""

import hashlib
import json
from pathlib import Path

from rag_server.config import ChunkingSettings
from rag_server.types import Document

READ_BYTES = 1 << 20


def file_fingerprint(path: Path, chunking: ChunkingSettings) -> str:
    """Return a hash of the file's bytes and of everything else that decides what is stored of it."""
    digest = hashlib.sha256(chunking.model_dump_json().encode())
    with path.open("rb") as file:
        while part := file.read(READ_BYTES):
            digest.update(part)
    return digest.hexdigest()


def content_hash_of(document: Document, chunking: ChunkingSettings) -> str:
    """Return a hash of a document and of how it is cut; what has the same need not be embedded again."""
    sections = [[section.start, section.kind, section.label, section.level] for section in document.sections]
    content = [document.title, document.text, dict(document.attributes), sections, chunking.model_dump()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
