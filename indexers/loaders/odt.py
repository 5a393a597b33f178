"""Reads an OpenDocument text: headings, paragraphs, lists, tables and notes in the order of the document."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from indexers.loaders.builder import BLANK_LINE, DocumentBuilder
from indexers.loaders.package import DAMAGE, Format, check_package, needs_password, unreadable
from indexers.loaders.xml import parse
from rag_server.types import Document

FORMAT = Format("OpenDocument text", ".odt")
OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
DRAW = "{urn:oasis:names:tc:opendocument:xmlns:drawing:1.0}"
META_TITLE = "{http://purl.org/dc/elements/1.1/}title"
ENCRYPTION = "{urn:oasis:names:tc:opendocument:xmlns:manifest:1.0}encryption-data"
LIST_ITEM = TEXT + "list-item"
PARAGRAPHS = frozenset((TEXT + "h", TEXT + "p"))
CHARACTERS = {TEXT + "tab": "\t", TEXT + "line-break": "\n"}
# What was deleted by a tracked change, what comments on the text, the numbers of notes, and forms.
NOT_IN_TEXT = frozenset((TEXT + "tracked-changes", OFFICE + "annotation", TEXT + "note-citation", OFFICE + "forms"))
# They stand in a paragraph, but hold paragraphs of their own.
SET_APART = frozenset((TEXT + "note-body", DRAW + "text-box"))
# Attributes repeat what they like; a line is never padded further.
MAX_SPACES = 100


def load(path: Path) -> Document:
    """Read an .odt file; its title is that of its properties or its first heading."""
    check_package(path, FORMAT)
    builder = DocumentBuilder()
    try:
        with zipfile.ZipFile(path) as package:
            manifest = parse(package.read("META-INF/manifest.xml"))
            if next(manifest.iter(ENCRYPTION), None) is not None:
                raise needs_password(path)
            body = parse(package.read("content.xml")).find(f"{OFFICE}body/{OFFICE}text")
            if body is None:
                raise ValueError("it holds no text document")
            meta = parse(package.read("meta.xml")) if "meta.xml" in package.namelist() else None
        _add(builder, body)
        stated = None if meta is None else next(meta.iter(META_TITLE), None)
    except DAMAGE as error:
        raise unreadable(path, FORMAT, error) from error
    title = (stated.text or "").strip() if stated is not None else ""
    return builder.build(path, title or next((str(section.label) for section in builder.sections), ""))


def _add(builder: DocumentBuilder, container: Any) -> None:
    """Append what a body, a section or a box holds."""
    for element in container:
        if element.tag in PARAGRAPHS:
            level = int(element.get(TEXT + "outline-level", 1)) if element.tag == TEXT + "h" else 0
            builder.add("".join(_text(element)), "\n" if _continues_list(element) else BLANK_LINE, level)
            for part in _set_apart(element):
                _add(builder, part)
        elif element.tag == TABLE + "table":
            builder.add("\n".join(filter(None, map(_row, _rows(element)))))
        elif element.tag not in NOT_IN_TEXT:
            _add(builder, element)


def _continues_list(paragraph: Any) -> bool:
    """Tell whether another item of the same list, or an item above this one's own list, stands before a paragraph."""
    item = paragraph.getparent()
    is_in_list = item.tag == LIST_ITEM
    is_first = item.getprevious() is None and paragraph.getprevious() is None
    return is_in_list and (not is_first or item.getparent().getparent().tag == LIST_ITEM)


def _text(element: Any) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        if child.tag in CHARACTERS:
            yield CHARACTERS[child.tag]
        elif child.tag == TEXT + "s":
            yield " " * min(int(child.get(TEXT + "c", 1)), MAX_SPACES)
        elif child.tag not in NOT_IN_TEXT and child.tag not in SET_APART:
            yield from _text(child)
        yield child.tail or ""


def _set_apart(element: Any) -> Iterator[Any]:
    for child in element:
        if child.tag in SET_APART:
            yield child
        elif child.tag not in NOT_IN_TEXT:
            yield from _set_apart(child)


def _rows(table: Any) -> Iterator[Any]:
    """Yield the rows of a table, also those in groups, but not those of a table within a cell."""
    for child in table:
        if child.tag == TABLE + "table-row":
            yield child
        elif child.tag.startswith(TABLE):
            yield from _rows(child)


def _row(row: Any) -> str:
    """Return a row on one line; a cell that another one covers keeps its place and is empty."""
    return " | ".join(_cell(cell) for cell in row).rstrip(" |").strip()


def _cell(cell: Any) -> str:
    if cell.tag != TABLE + "table-cell":
        return ""
    inner = DocumentBuilder()
    _add(inner, cell)
    return " ".join(inner.text.split())
