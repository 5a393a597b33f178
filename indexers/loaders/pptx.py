"""Reads the slides of a presentation with their notes, hidden slides too."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pptx import Presentation
from pptx.exc import PythonPptxError
from pptx.oxml.ns import qn

from indexers.loaders.builder import DocumentBuilder
from indexers.loaders.package import DAMAGE, Format, check_package, unreadable
from rag_server.types import Document

FORMAT = Format("presentation", ".pptx")
# What python-pptx answers for a file without properties.
DEFAULT_TITLE = "PowerPoint Presentation"
# What the master puts on every slide.
REPEATED = frozenset(("dt", "ftr", "sldNum"))


def load(path: Path) -> Document:
    """Read a .pptx file; its title is that of its properties or of its first slide that has one."""
    check_package(path, FORMAT)
    builder = DocumentBuilder()
    try:
        presentation = Presentation(str(path))
        title = presentation.core_properties.title.strip()
        title = "" if title == DEFAULT_TITLE else title
        for number, slide in enumerate(presentation.slides, 1):
            builder.start_section("slide", float(number))
            heading = slide.shapes.title
            title = title or ("" if heading is None else heading.text_frame.text)
            for block in _blocks(slide):
                builder.add(block)
    except (PythonPptxError, *DAMAGE) as error:
        raise unreadable(path, FORMAT, error) from error
    return builder.build(path, title)


def _blocks(slide: Any) -> Iterator[str]:
    """Yield the title first, then the shapes in the order of the slide, then the notes."""
    heading = slide.shapes.title
    if heading is not None:
        yield heading.text_frame.text.replace("\v", " ")
    for shape in slide.shapes:
        if heading is None or shape.shape_id != heading.shape_id:
            yield from _shape(shape)
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        yield _text(slide.notes_slide.notes_text_frame)


def _shape(shape: Any) -> Iterator[str]:
    """Yield the text of a shape; that of a group is that of its members."""
    if hasattr(shape, "shapes"):
        for member in shape.shapes:
            yield from _shape(member)
    elif getattr(shape, "has_table", False):
        yield "\n".join(_row(row) for row in shape.table.rows)
    elif shape.has_text_frame and not _is_repeated(shape):
        yield _text(shape.text_frame)


def _is_repeated(shape: Any) -> bool:
    placeholder = shape.element.find(f".//{qn('p:nvPr')}/{qn('p:ph')}")
    return placeholder is not None and placeholder.get("type") in REPEATED


def _text(frame: Any) -> str:
    # A vertical tab is a line break within a paragraph.
    return "\n".join(filter(None, (paragraph.text.replace("\v", "\n").strip() for paragraph in frame.paragraphs)))


def _row(row: Any) -> str:
    cells = ["" if cell.is_spanned else " ".join(cell.text_frame.text.split()) for cell in row.cells]
    return " | ".join(cells).rstrip(" |").strip()
