"""Reads source code as it stands: its names and comments are what a question about it is made of."""

from pathlib import Path

from indexers.loaders.text import decode, whole_file
from rag_server.types import Document


def load(path: Path) -> Document:
    """Read a file of source code or TeX; its title is its name with the suffix, which tells the language."""
    return whole_file(path, path.name, decode(path, path.read_bytes()))
