"""EPUB: the chapters in reading order, their headings as sections."""

import zipfile
from pathlib import Path

import pytest

from indexers.loaders import epub
from rag_server.errors import DocumentError
from rag_server.types import Document, Section

CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="{}"/></rootfiles></container>'
)
OPF = """<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:title>The Book</dc:title></metadata><manifest>
<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml"/>
<item id="b" href="text/b%201.xhtml" media-type="application/xhtml+xml"/>
<item id="a" href="a.xhtml" media-type="application/xhtml+xml"/>
<item id="css" href="a.css" media-type="text/css"/></manifest>
<spine><itemref idref="b"/><itemref idref="css"/><itemref idref="a"/><itemref idref="gone"/></spine></package>"""
ENCRYPTED = (
    '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container" xmlns:e="http://www.w3.org/2001/04/xmlenc#">'
    '<e:EncryptedData><e:CipherData><e:CipherReference URI="{}"/></e:CipherData></e:EncryptedData></encryption>'
)


def _load(folder: Path, first: str, second: str = "", extra: dict[str, str] | None = None) -> Document:
    path = folder / "book.epub"
    parts = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER.format("OPS/book.opf"),
        "OPS/book.opf": OPF,
        "OPS/nav.xhtml": "<p>contents</p>",
        "OPS/text/b 1.xhtml": first,
        "OPS/a.xhtml": second,
    }
    with zipfile.ZipFile(path, "w") as package:
        for name, part in (parts | (extra or {})).items():
            package.writestr(name, part)
    return epub.load(path)


def test_chapters_follow_the_spine_and_their_headings_are_sections(tmp_path: Path) -> None:
    document = _load(tmp_path, "<h1>One</h1><p>first</p><h2>Part</h2>", "<h1>Two</h1><p>second</p>")
    assert document.text == "One\n\nfirst\n\nPart\n\nTwo\n\nsecond"
    assert document.sections == (
        Section(0, "heading", "One", 1),
        Section(12, "heading", "Part", 2),
        Section(18, "heading", "Two", 1),
    )
    assert all(document.text[section.start :].startswith(str(section.label)) for section in document.sections)
    assert document.title == "The Book"


def test_a_chapter_without_heading_has_its_title_unless_it_is_the_books(tmp_path: Path) -> None:
    document = _load(tmp_path, "<title>Preface</title><body>a</body>", "<title>The Book</title><body>b</body>")
    assert document.text == "a\n\nb"
    assert document.sections == (Section(0, "heading", "Preface", 1),)


def test_elements_closed_at_once_do_not_swallow_the_page(tmp_path: Path) -> None:
    """XHTML may write <title/>, which HTML takes for an open element."""
    page = '<html><head><title/><script src="x.js"/></head><body><p>text</p></body></html>'
    assert _load(tmp_path, page).text == "text"


def test_a_protected_chapter_is_named_so_and_a_protected_font_is_not(tmp_path: Path) -> None:
    where = "META-INF/encryption.xml"
    assert _load(tmp_path, "text", extra={where: ENCRYPTED.format("OPS/font.otf")}).text == "text"
    with pytest.raises(DocumentError, match=r"book\.epub is protected by its publisher; get a copy without protection"):
        _load(tmp_path, "text", extra={where: ENCRYPTED.format("OPS/a.xhtml")})


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({}, "holds no text"),
        ({"META-INF/container.xml": "<container/>"}, "is not a readable EPUB book (META-INF/container.xml names no book)"),
        ({"META-INF/container.xml": CONTAINER.format("no.opf")}, "is not a readable EPUB book ("),
        ({"OPS/book.opf": OPF.replace("b%201", "missing")}, "is not a readable EPUB book ("),
        ({"OPS/book.opf": OPF[:-20]}, "is not a readable EPUB book ("),
    ],
    ids=["empty", "no book", "no package", "no chapter", "cut"],
)
def test_an_empty_and_a_damaged_book_are_reported(tmp_path: Path, extra: dict[str, str], reason: str) -> None:
    with pytest.raises(DocumentError) as caught:
        _load(tmp_path, "", extra=extra)
    assert str(caught.value).startswith(f"{tmp_path / 'book.epub'} {reason}")
    assert "\n" not in str(caught.value)


def test_an_external_entity_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    doctype = f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{tmp_path / "secret"}">]>'
    document = _load(tmp_path, "text", extra={"OPS/book.opf": doctype + OPF.replace("The Book", "The&e; Book")})
    assert document.title == "The Book"
