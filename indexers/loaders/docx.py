"""Reads a Word document: paragraphs, lists, text boxes and tables in the order of the document."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docx
from docx.document import Document as WordDocument
from docx.oxml.exceptions import XmlchemyError
from docx.oxml.ns import qn
from docx.oxml.text.paragraph import CT_P
from docx.oxml.xmlchemy import BaseOxmlElement

from indexers.loaders.builder import BLANK_LINE, DocumentBuilder
from indexers.loaders.package import DAMAGE, Format, check_package, unreadable
from rag_server.types import Document

FORMAT = Format("Word document", ".docx")
# What python-docx answers for a file without properties.
DEFAULT_TITLE = "Word Document"
FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
FORMULA_TEXT = "{http://schemas.openxmlformats.org/officeDocument/2006/math}t"
TEXT_BOX = qn("w:txbxContent")
CHARACTERS = {qn("w:tab"): "\t", qn("w:br"): "\n", qn("w:cr"): "\n", qn("w:noBreakHyphen"): "-"}
# What was deleted or moved away by a tracked change, and what stands elsewhere.
NOT_IN_PARAGRAPH = frozenset((qn("w:del"), qn("w:moveFrom"), qn("w:rt"), TEXT_BOX, FALLBACK))
# python-docx passes over content controls and tracked insertions, text and all.
WRAPPERS = frozenset((qn("w:sdt"), qn("w:sdtContent"), qn("w:customXml"), qn("w:ins"), qn("w:moveTo")))
STYLE_LEVEL = re.compile(r"heading (\d)")


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph or a table."""

    text: str
    is_item: bool = False
    # Of a heading, else 0.
    level: int = 0


def load(path: Path) -> Document:
    """Read a .docx file; its title is that of its properties or its first heading."""
    check_package(path, FORMAT)
    builder = DocumentBuilder()
    try:
        word = docx.Document(str(path))
        styles = {style.style_id: (style.name or "").lower() for style in word.styles}
        was_item = False
        for block in _blocks(word.element.body, styles):
            builder.add(block.text, "\n" if block.is_item and was_item else BLANK_LINE, block.level)
            was_item = block.is_item
        title = _title(word) or next((str(section.label) for section in builder.sections), "")
    except (XmlchemyError, *DAMAGE) as error:
        raise unreadable(path, FORMAT, error) from error
    return builder.build(path, title)


def _title(word: WordDocument) -> str:
    title: str = word.core_properties.title.strip()
    return "" if title == DEFAULT_TITLE else title


def _blocks(container: BaseOxmlElement, styles: dict[str, str]) -> Iterator[Block]:
    for element in _children(container, (qn("w:p"), qn("w:tbl"))):
        if element.tag == qn("w:tbl"):
            yield from _table(element, styles)
            continue
        text = "".join(_text(element)).strip()
        if text:
            yield _paragraph(text, element, styles)
        for box in _text_boxes(element):
            yield from _blocks(box, styles)


def _children(parent: BaseOxmlElement, tags: Iterable[str]) -> Iterator[Any]:
    for child in parent:
        if child.tag in tags:
            yield child
        elif child.tag in WRAPPERS:
            yield from _children(child, tags)


def _paragraph(text: str, paragraph: CT_P, styles: dict[str, str]) -> Block:
    style = styles.get(paragraph.style or "", "")
    if style == "title" or style.startswith("heading"):
        level = STYLE_LEVEL.match(style)
        return Block(text, level=int(level[1]) if level else 1)
    is_numbered = paragraph.pPr is not None and paragraph.pPr.numPr is not None
    return Block(text, is_item=is_numbered or style.startswith("list"))


def _text(element: BaseOxmlElement) -> Iterator[str]:
    for child in element:
        if child.tag == qn("w:t") or child.tag == FORMULA_TEXT:
            yield child.text or ""
        elif child.tag in CHARACTERS:
            yield CHARACTERS[child.tag]
        elif child.tag not in NOT_IN_PARAGRAPH and not _is_hidden(child):
            yield from _text(child)


def _is_hidden(run: BaseOxmlElement) -> bool:
    mark = run.find(f"{qn('w:rPr')}/{qn('w:vanish')}")
    return mark is not None and mark.get(qn("w:val"), "true") not in ("0", "false", "off")


def _text_boxes(element: BaseOxmlElement) -> Iterator[Any]:
    for child in element:
        if child.tag == TEXT_BOX:
            yield child
        elif child.tag != FALLBACK:
            yield from _text_boxes(child)


def _table(table: BaseOxmlElement, styles: dict[str, str]) -> Iterator[Block]:
    """Yield the rows as one block; a cell that lays out the page instead of holding data yields its own blocks."""
    rows: list[str] = []
    for row in _children(table, (qn("w:tr"),)):
        cells = list(_children(row, (qn("w:tc"),)))
        if len(cells) > 1 and not any(cell.findall(f".//{qn('w:tbl')}") for cell in cells):
            line = " | ".join(_cell_text(cell, styles) for cell in cells).rstrip(" |").strip()
            rows += [line] if line else []
            continue
        if rows:
            yield Block("\n".join(rows))
            rows = []
        for cell in cells:
            yield from _blocks(cell, styles)
    if rows:
        yield Block("\n".join(rows))


def _cell_text(cell: BaseOxmlElement, styles: dict[str, str]) -> str:
    """Return the text of a cell on one line; nothing for one that continues the cell above it."""
    merge = cell.find(f"{qn('w:tcPr')}/{qn('w:vMerge')}")
    if merge is not None and merge.get(qn("w:val")) != "restart":
        return ""
    return " ".join(" ".join(block.text for block in _blocks(cell, styles)).split())
