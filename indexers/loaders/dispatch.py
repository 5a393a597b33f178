"""Finds the files to index and hands each to the loader of its format."""

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from indexers.loaders.sniffing import sniff
from rag_server.errors import DocumentError
from rag_server.types import Document

# Imported when the first such file is read: together the libraries of all formats take a second to load.
LOADERS = {
    "text": "indexers.loaders.text",
    "markdown": "indexers.loaders.markdown",
    "html": "indexers.loaders.html",
    "xml": "indexers.loaders.xml",
    "tables": "indexers.loaders.tables",
    "jsonl": "indexers.loaders.jsonl",
    "json_file": "indexers.loaders.json_file",
    "notebook": "indexers.loaders.notebook",
    "source_code": "indexers.loaders.source_code",
    "eml": "indexers.loaders.eml",
    "rtf": "indexers.loaders.rtf",
    "pdf": "indexers.loaders.pdf",
    "doc": "indexers.loaders.doc",
    "docx": "indexers.loaders.docx",
    "odt": "indexers.loaders.odt",
    "epub": "indexers.loaders.epub",
    "pptx": "indexers.loaders.pptx",
    "spreadsheet": "indexers.loaders.spreadsheet",
}
# Their rows are documents of their own, read one at a time.
ROW_FORMATS = frozenset(("jsonl",))


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


def load(path: Path, on_read: Callable[[int], None], *, max_bytes: int | None = None) -> Iterator[Document | DocumentError]:
    """Yield the documents of a file, and the error of each row that is none.

    Args:
        path: The file.
        on_read: Told how many bytes of the file are read so far, where its rows are read one at a time.
        max_bytes: The most that is read of a file in one piece; None means any size.

    Raises:
        DocumentError: The file as a whole cannot be read; UnsupportedFormatError if no loader knows its format.
        OSError: The file cannot be opened.
    """
    format_name = sniff(path)
    loader = importlib.import_module(LOADERS[format_name])
    if format_name in ROW_FORMATS:
        yield from loader.load(path, on_read)
        return
    num_bytes = path.stat().st_size
    if max_bytes is not None and num_bytes > max_bytes:
        raise DocumentError(f"{path} has {num_bytes >> 20} MiB, more than {max_bytes >> 20} MiB; split it or leave it out")
    yield loader.load(path)
