"""Finds the files to index and hands each to the loader of its kind."""

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rag_server.errors import DocumentError, UnsupportedFormatError
from rag_server.types import Document

# Imported when the first such file is read: together the libraries of all formats take a second to load.
LOADERS = {
    ".txt": "indexers.loaders.text",
    ".md": "indexers.loaders.markdown",
    ".markdown": "indexers.loaders.markdown",
    ".html": "indexers.loaders.html",
    ".htm": "indexers.loaders.html",
    ".pdf": "indexers.loaders.pdf",
    ".docx": "indexers.loaders.docx",
    ".jsonl": "indexers.loaders.jsonl",
    ".jsonl.gz": "indexers.loaders.jsonl",
}
ROW_SUFFIXES = (".jsonl", ".jsonl.gz")


def find_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files named by `paths` and those in the folders among them, each once, hidden ones left out.

    A file named explicitly is kept whatever its name, even if it does not exist: opening it tells the reason.
    """
    found: dict[Path, Path] = {}
    visited: set[Path] = set()
    for path in paths:
        for file in _walk(path, visited) if path.is_dir() else [path]:
            found.setdefault(_identity(file), file)
    return list(found.values())


def _walk(folder: Path, visited: set[Path]) -> Iterator[Path]:
    """Yield the files under `folder` in sorted order; a folder reached a second time, by a link, yields nothing."""
    if (identity := _identity(folder)) in visited:
        return
    visited.add(identity)
    try:
        entries = sorted(folder.iterdir())
    except PermissionError:
        # Opening it fails too, which tells the caller.
        yield folder
        return
    for path in entries:
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _walk(path, visited)
        # A dangling link is kept to be reported; a pipe or a device would block its reader.
        elif path.is_file() or path.is_symlink():
            yield path


def _identity(path: Path) -> Path:
    return Path(os.path.realpath(path))


def load(path: Path, on_read: Callable[[int], None]) -> Iterator[Document | DocumentError]:
    """Yield the documents of a file, and the error of each row that is none.

    Raises:
        DocumentError: The file as a whole cannot be read; UnsupportedFormatError if no loader knows its suffix.
        OSError: The file cannot be opened.
    """
    # What cannot be opened is reported as such, whatever its suffix.
    path.open("rb").close()
    suffix = next((suffix for suffix in LOADERS if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise UnsupportedFormatError(f"{path} is of no known kind; convert it to one of: {' '.join(LOADERS)}")
    loader = importlib.import_module(LOADERS[suffix])
    if suffix in ROW_SUFFIXES:
        yield from loader.load(path, on_read)
    else:
        yield loader.load(path)
