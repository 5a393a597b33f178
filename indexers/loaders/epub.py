"""Reads the chapters of an EPUB book in their reading order."""

import posixpath
import re
import zipfile
from pathlib import Path
from urllib.parse import unquote

from indexers.loaders import html
from indexers.loaders.builder import DocumentBuilder, heading
from indexers.loaders.package import DAMAGE, Format, check_package, unreadable
from indexers.loaders.text import decode
from indexers.loaders.xml import parse
from rag_server.errors import DocumentError
from rag_server.types import Document

FORMAT = Format("EPUB book", ".epub")
CONTAINER, ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
OPF = "{http://www.idpf.org/2007/opf}"
ROOT_FILE = "{urn:oasis:names:tc:opendocument:xmlns:container}rootfile"
BOOK_TITLE = "{http://purl.org/dc/elements/1.1/}title"
CIPHER_REFERENCE = "{http://www.w3.org/2001/04/xmlenc#}CipherReference"
PAGE_TYPES = frozenset(("application/xhtml+xml", "text/html"))
# XML may close these at once; HTML would take the rest of the page for their content.
CLOSED_AT_ONCE = re.compile(r"<(title|script|style|iframe|noscript|object|template|textarea|audio|video|canvas)\b([^<>]*)/>")


def load(path: Path) -> Document:
    """Read an .epub file; its sections are the headings of its chapters."""
    check_package(path, FORMAT)
    builder = DocumentBuilder()
    try:
        with zipfile.ZipFile(path) as package:
            title, names = _spine(package)
            encrypted = _encrypted(package)
            for name in names:
                if name in encrypted:
                    raise DocumentError(f"{path} is protected by its publisher; get a copy without protection")
                _add_chapter(builder, title, decode(path, package.read(name)))
    except DAMAGE as error:
        raise unreadable(path, FORMAT, error) from error
    return builder.build(path, title)


def _add_chapter(builder: DocumentBuilder, book_title: str, markup: str) -> None:
    page = html.read(CLOSED_AT_ONCE.sub(r"<\1\2></\1>", markup))
    sections = page.sections
    # Many books style paragraphs as headings, and many converters write the book's title into every chapter.
    if not sections and page.title and page.title != book_title:
        sections = (heading(0, page.title, 1),)
    builder.add(page.text, parts=sections)


def _spine(package: zipfile.ZipFile) -> tuple[str, list[str]]:
    """Return the title of the book and the members that are its chapters."""
    root_file = next(parse(package.read(CONTAINER)).iter(ROOT_FILE), None)
    if root_file is None:
        raise ValueError(f"{CONTAINER} names no book")
    opf_name = root_file.get("full-path", "")
    opf = parse(package.read(opf_name))
    folder = posixpath.dirname(opf_name)
    pages = {
        item.get("id"): posixpath.normpath(posixpath.join(folder, unquote(item.get("href", ""))))
        for item in opf.iter(OPF + "item")
        if item.get("media-type") in PAGE_TYPES
    }
    title = next(opf.iter(BOOK_TITLE), None)
    chapters = [pages[item.get("idref")] for item in opf.iter(OPF + "itemref") if item.get("idref") in pages]
    return " ".join((title.text or "").split()) if title is not None else "", chapters


def _encrypted(package: zipfile.ZipFile) -> set[str]:
    """Return the members that are encrypted; that a font is among them hinders nobody."""
    if ENCRYPTION not in package.namelist():
        return set()
    return {unquote(reference.get("URI", "")) for reference in parse(package.read(ENCRYPTION)).iter(CIPHER_REFERENCE)}
