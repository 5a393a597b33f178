"""Reads a Word document: paragraphs, lists, text boxes and tables in the order of the document."""

import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import docx
from docx.document import Document as WordDocument
from docx.oxml.exceptions import XmlchemyError
from docx.oxml.ns import qn
from docx.oxml.text.paragraph import CT_P
from docx.oxml.xmlchemy import BaseOxmlElement
from lxml.etree import LxmlError

from indexers.loaders.text import one_line, whole_file
from rag_server.errors import DocumentError
from rag_server.types import Document

MAX_UNCOMPRESSED_BYTES = 512 * 1024 * 1024
OLE_SIGNATURE = bytes.fromhex("D0CF11E0A1B11AE1")
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
# What python-docx, zipfile and lxml raise over a damaged package; OSError is a position outside of the file.
DAMAGE = (
    XmlchemyError,
    LxmlError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    KeyError,
    ValueError,
    AttributeError,
    TypeError,
    OSError,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph or a table."""

    text: str
    kind: Literal["heading", "item", "other"] = "other"


def load(path: Path) -> Document:
    """Read a .docx file; its title is that of its properties or its first heading."""
    _check_package(path)
    try:
        word = docx.Document(str(path))
        styles = {style.style_id: (style.name or "").lower() for style in word.styles}
        blocks = list(_blocks(word.element.body, styles))
        title = _title(word, blocks)
    except DAMAGE as error:
        raise _unreadable(path, error) from error
    return whole_file(path, title, _join(blocks))


def _check_package(path: Path) -> None:
    """Refuse what would fill the memory or cannot be opened, before python-docx unpacks it."""
    with path.open("rb") as file:
        if file.read(len(OLE_SIGNATURE)) == OLE_SIGNATURE:
            raise DocumentError(f"{path} is protected by a password or in the old .doc format; save it as plain .docx")
        try:
            with zipfile.ZipFile(file) as package:
                members = package.infolist()
        except DAMAGE as error:
            raise _unreadable(path, error) from error
    if any(member.flag_bits & 1 for member in members):
        raise DocumentError(f"{path} is protected by a password; save a copy without one")
    total = sum(member.file_size for member in members)
    if total > MAX_UNCOMPRESSED_BYTES:
        limit = MAX_UNCOMPRESSED_BYTES // 1024**2
        raise DocumentError(f"{path} unpacks to {total // 1024**2} MB, more than {limit} MB; split it or leave it out")


def _unreadable(path: Path, error: Exception) -> DocumentError:
    return DocumentError(f"{path} is not a readable Word document ({one_line(error)}); save it again as .docx")


def _title(word: WordDocument, blocks: Iterable[Block]) -> str:
    title: str = word.core_properties.title.strip()
    if title and title != DEFAULT_TITLE:
        return title
    return next((block.text for block in blocks if block.kind == "heading"), "")


def _join(blocks: Iterable[Block]) -> str:
    """Separate blocks by blank lines, except the items of a list."""
    pieces: list[str] = []
    was_item = False
    for block in blocks:
        is_item = block.kind == "item"
        pieces += ["\n" if is_item and was_item else "\n\n", block.text]
        was_item = is_item
    return "".join(pieces[1:])


def _blocks(container: BaseOxmlElement, styles: dict[str, str]) -> Iterator[Block]:
    for element in _children(container, (qn("w:p"), qn("w:tbl"))):
        if element.tag == qn("w:tbl"):
            yield from _table(element, styles)
            continue
        text = "".join(_text(element)).strip()
        if text:
            yield Block(text, _kind(element, styles))
        for box in _text_boxes(element):
            yield from _blocks(box, styles)


def _children(parent: BaseOxmlElement, tags: Iterable[str]) -> Iterator[Any]:
    for child in parent:
        if child.tag in tags:
            yield child
        elif child.tag in WRAPPERS:
            yield from _children(child, tags)


def _kind(paragraph: CT_P, styles: dict[str, str]) -> Literal["heading", "item", "other"]:
    style = styles.get(paragraph.style or "", "")
    if style == "title" or style.startswith("heading"):
        return "heading"
    is_numbered = paragraph.pPr is not None and paragraph.pPr.numPr is not None
    return "item" if is_numbered or style.startswith("list") else "other"


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
