"""Notebooks: prose, code and what it put out, in order."""

import json
from pathlib import Path
from typing import Any

import pytest

from indexers.loaders import notebook
from rag_server.errors import DocumentError
from rag_server.types import Document, Section


def _load(folder: Path, value: object) -> Document:
    path = folder / "work.ipynb"
    path.write_text(json.dumps(value))
    return notebook.load(path)


def _cells(folder: Path, *cells: object) -> Document:
    return _load(folder, {"cells": list(cells), "metadata": {}, "nbformat": 4})


def _code(source: str, *outputs: dict[str, Any]) -> dict[str, Any]:
    return {"cell_type": "code", "source": source, "outputs": list(outputs)}


def test_cells_and_outputs_stand_in_order_and_headings_are_sections(tmp_path: Path) -> None:
    """A comment in code is no heading."""
    document = _cells(
        tmp_path,
        {"cell_type": "markdown", "source": ["# The *work*\r\n", "\r\n", "intro\r\n", "## Part"]},
        _code("# comment\nprint(1)", {"output_type": "stream", "text": ["1\n", "2\n"]}),
        {"cell_type": "markdown", "source": "## Last"},
    )
    assert document.text == "# The *work*\n\nintro\n## Part\n\n# comment\nprint(1)\n\n1\n2\n\n## Last"
    assert document.sections == (
        Section(0, "heading", "The work", 1),
        Section(20, "heading", "Part", 2),
        Section(54, "heading", "Last", 2),
    )
    assert [document.text[section.start :].split("\n")[0] for section in document.sections] == [
        "# The *work*",
        "## Part",
        "## Last",
    ]
    assert document.title == "The work"


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ({"data": {"text/plain": ["4", "2"], "image/png": "aGk="}}, "x\n\n42"),
        ({"data": {"image/png": "aGk="}}, "x"),
        ({"ename": "ValueError", "evalue": "no", "traceback": ["long"]}, "x\n\nValueError: no"),
        ({"text": "\x1b[1;31mred\x1b[0m"}, "x\n\nred"),
    ],
)
def test_only_text_is_taken_of_an_output(tmp_path: Path, output: dict[str, Any], text: str) -> None:
    assert _cells(tmp_path, _code("x", output)).text == text


@pytest.mark.parametrize("value", [[], "text", {}, {"cells": 1}, {"worksheets": []}])
def test_what_is_no_notebook_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(DocumentError, match=r"work\.ipynb is not a notebook of format 4; save it again in Jupyter"):
        _load(tmp_path, value)


@pytest.mark.parametrize("cell", [1, {}, {"source": 5}, {"source": [1]}, {"outputs": 7}, {"source": "", "outputs": [1]}])
def test_a_cell_of_another_form_is_passed_over(tmp_path: Path, cell: object) -> None:
    with pytest.raises(DocumentError, match=r"work\.ipynb holds no text"):
        _cells(tmp_path, cell)
