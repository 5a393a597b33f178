"""Presentations: slide by slide, whatever holds the text."""

from pathlib import Path

import pptx as python_pptx
import pytest
from pptx.util import Inches

from indexers.loaders import pptx
from rag_server.errors import DocumentError
from rag_server.types import Document, Section

BOX = (Inches(1), Inches(1), Inches(2), Inches(1))


def _load(folder: Path, presentation: object) -> Document:
    path = folder / "talk.pptx"
    presentation.save(str(path))
    return pptx.load(path)


def test_title_text_groups_tables_and_notes_stand_in_order(tmp_path: Path) -> None:
    presentation = python_pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[1])
    slide.shapes.title.text = "Plans"
    slide.placeholders[1].text = "first\nsecond"
    slide.shapes.add_group_shape().shapes.add_textbox(*BOX).text_frame.text = "grouped"
    table = slide.shapes.add_table(2, 2, *BOX).table
    for cell, text in zip(table.iter_cells(), ("a", "b", "c", "d\ne"), strict=True):
        cell.text = text
    slide.notes_slide.notes_text_frame.text = "say this"
    document = _load(tmp_path, presentation)
    assert document.text == "Plans\n\nfirst\nsecond\n\ngrouped\n\na | b\nc | d e\n\nsay this"
    assert document.title == "Plans"


def test_each_slide_with_text_is_a_section_counted_among_all(tmp_path: Path) -> None:
    """An empty slide counts, a hidden one is read."""
    presentation = python_pptx.Presentation()
    for text in ("one", "", "three"):
        slide = presentation.slides.add_slide(presentation.slide_layouts[6])
        if text:
            slide.shapes.add_textbox(*BOX).text_frame.text = text
    slide.element.set("show", "0")
    document = _load(tmp_path, presentation)
    assert document.text == "one\n\nthree"
    assert document.sections == (Section(0, "slide", 1.0), Section(5, "slide", 3.0))
    assert document.title == "talk"


def test_merged_cells_are_not_repeated(tmp_path: Path) -> None:
    presentation = python_pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[6])
    table = slide.shapes.add_table(2, 2, *BOX).table
    table.cell(0, 0).merge(table.cell(0, 1))
    table.cell(0, 0).text = "wide"
    table.cell(1, 1).text = "right"
    assert _load(tmp_path, presentation).text == "wide\n| right"


def test_the_stated_title_comes_first(tmp_path: Path) -> None:
    presentation = python_pptx.Presentation()
    presentation.core_properties.title = "Stated"
    presentation.slides.add_slide(presentation.slide_layouts[5]).shapes.title.text = "Slide"
    assert _load(tmp_path, presentation).title == "Stated"


def test_a_presentation_without_text_holds_none(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"talk\.pptx holds no text"):
        _load(tmp_path, python_pptx.Presentation())


def test_any_cut_of_a_presentation_is_a_document_error(tmp_path: Path) -> None:
    path = tmp_path / "talk.pptx"
    python_pptx.Presentation().save(str(path))
    whole = path.read_bytes()
    for length in range(0, len(whole), 3000):
        path.write_bytes(whole[:length])
        with pytest.raises(DocumentError, match=r"^\S+ is not a readable presentation \(.*\); save it again as \.pptx$"):
            pptx.load(path)
