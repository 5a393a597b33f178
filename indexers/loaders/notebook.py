"""Reads a Jupyter notebook: its prose, its code and the texts that the code put out."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from indexers.loaders import json_file, markdown
from indexers.loaders.builder import DocumentBuilder
from indexers.loaders.text import clean
from rag_server.errors import DocumentError
from rag_server.types import Document

TERMINAL_COLOUR = re.compile(r"\x1b\[[\d;]*m")


def load(path: Path) -> Document:
    """Read an .ipynb file; its title is its first heading."""
    notebook = json_file.read(path)
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        raise DocumentError(f"{path} is not a notebook of format 4; save it again in Jupyter")
    builder = DocumentBuilder()
    for cell in cells:
        if isinstance(cell, dict):
            _add_cell(builder, cell)
    return builder.build(path, next((str(section.label) for section in builder.sections), ""))


def _add_cell(builder: DocumentBuilder, cell: dict[str, Any]) -> None:
    source = clean(_text(cell.get("source"))).strip()
    is_prose = cell.get("cell_type") == "markdown"
    builder.add(source, parts=markdown.headings(source) if is_prose else ())
    outputs = cell.get("outputs")
    for output in outputs if isinstance(outputs, list) else []:
        for text in _output(output) if isinstance(output, dict) else ():
            builder.add(TERMINAL_COLOUR.sub("", text))


def _output(output: dict[str, Any]) -> Iterator[str]:
    """Yield what was printed, the plain form of a result, and an error without its traceback, which repeats the code."""
    yield _text(output.get("text"))
    data = output.get("data")
    if isinstance(data, dict):
        yield _text(data.get("text/plain"))
    if "ename" in output:
        yield f"{output['ename']}: {output.get('evalue', '')}"


def _text(source: object) -> str:
    """Return a text that may be divided into lines."""
    lines = source if isinstance(source, list) else [source]
    return "".join(line for line in lines if isinstance(line, str))
