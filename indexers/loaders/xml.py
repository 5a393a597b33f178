"""Reads the text of an XML document, a line per element, and parses XML for the formats that are made of it.

Nothing outside of the document is read: neither its DTD nor an external entity.
"""

import html
import re
from collections.abc import Iterator
from pathlib import Path

from lxml import etree

from indexers.loaders.builder import BLANK_LINE, DocumentBuilder
from indexers.loaders.text import decode, one_line
from rag_server.errors import DocumentError
from rag_server.types import Document

DECLARATION = re.compile(r"\A\s*<\?xml[^>]*\?>")
TITLES = ("title", "article-title")


def load(path: Path) -> Document:
    """Read an XML document; its title is its first element of that name, or the name of its root."""
    root = _parse_file(path)
    builder = DocumentBuilder()
    title, above = "", None
    for element, line in _lines(root):
        if not title and _name(element) in TITLES:
            title = line
        # The fields of a record, the items of a list and the paragraphs of a section stand together.
        builder.add(line, "\n" if element.getparent() is above else BLANK_LINE)
        above = element.getparent()
    return builder.build(path, title or _name(root))


def parse(data: bytes) -> etree._Element:
    """Parse XML that may be hostile.

    Raises:
        LxmlError: It is not well-formed, nests too deeply or holds a text of unusual size.
    """
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )
    root = etree.fromstring(data, parser)
    for entity in list(root.iter(etree.Entity)):
        _replace(entity)
    return root


def _parse_file(path: Path) -> etree._Element:
    data = path.read_bytes()
    if not data.strip():
        raise DocumentError(f"{path} holds no text")
    try:
        return parse(data)
    except etree.LxmlError as error:
        reason = error
    try:
        # Often only the encoding is not the declared one.
        return parse(DECLARATION.sub("", decode(path, data)).encode())
    except (etree.LxmlError, UnicodeEncodeError) as error:
        raise DocumentError(f"{path} is not readable XML ({one_line(reason)}); repair it or save it again") from error


def _replace(entity: etree._Entity) -> None:
    """Put the character in place of an entity that HTML knows, nothing in place of any other."""
    character = html.unescape(entity.text)
    text = ("" if character == entity.text else character) + (entity.tail or "")
    parent, previous = entity.getparent(), entity.getprevious()
    # lxml would remove the tail with the entity.
    entity.tail = None
    if previous is not None:
        previous.tail = (previous.tail or "") + text
    else:
        parent.text = (parent.text or "") + text
    parent.remove(entity)


def _lines(root: etree._Element) -> Iterator[tuple[etree._Element, str]]:
    """Yield each element that holds text, with the elements in its text, as one line."""
    pending = [root]
    while pending:
        element = pending.pop()
        if _holds_text(element):
            yield element, " ".join(_inline(element).split())
        else:
            pending.extend(reversed(element))


def _holds_text(element: etree._Element) -> bool:
    return bool((element.text or "").strip()) or any((child.tail or "").strip() for child in element)


def _inline(element: etree._Element) -> str:
    # Cells and the like stand side by side without a space between them.
    for child in element.iterdescendants():
        if child.tail is None and child.getnext() is not None:
            child.tail = " "
    return "".join(element.itertext())


def _name(element: etree._Element) -> str:
    name: str = etree.QName(element).localname
    return name
