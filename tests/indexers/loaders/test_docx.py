"""Word: all text in the order of the document, each cell once."""

import io
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import docx as python_docx
import pytest
from docx.document import Document as WordDocument
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls

from indexers.loaders import docx, package
from rag_server.errors import DocumentError
from rag_server.types import Document, Section


def _load(folder: Path, word: WordDocument) -> Document:
    path = folder / "memo.docx"
    word.save(str(path))
    return docx.load(path)


def _package(parts: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as package:
        for name, data in parts.items():
            package.writestr(name, data)
    return buffer.getvalue()


def _parts() -> dict[str, bytes]:
    """Return the members of a small Word document."""
    word = python_docx.Document()
    word.add_heading("Head", 1)
    word.add_table(2, 2).cell(0, 0).text = "cell"
    whole = io.BytesIO()
    word.save(whole)
    with zipfile.ZipFile(whole) as package:
        return {name: package.read(name) for name in package.namelist()}


def _refusal(folder: Path, data: bytes) -> str:
    path = folder / "memo.docx"
    path.write_bytes(data)
    with pytest.raises(DocumentError) as caught:
        docx.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path} ")
    assert "\n" not in message
    return message.removeprefix(f"{path} ")


def test_paragraphs_lists_and_tables_stand_in_the_order_of_the_document(tmp_path: Path) -> None:
    """Headings stand alone, items of a list on consecutive lines, cells between bars."""
    word = python_docx.Document()
    word.add_heading("Head", 1)
    word.add_paragraph("Before")
    table = word.add_table(2, 2)
    for cell, text in zip(table._cells, ("a", "b", "c", "d\ne"), strict=True):
        cell.text = text
    word.add_paragraph("one", style="List Bullet")
    word.add_paragraph("two", style="List Bullet")
    word.add_paragraph("")
    word.add_paragraph("After")
    assert _load(tmp_path, word).text == "Head\n\nBefore\n\na | b\nc | d e\n\none\ntwo\n\nAfter"


def test_headings_are_sections_of_their_level(tmp_path: Path) -> None:
    """The title counts as one of the first level; a line break within a heading is a space of its label."""
    word = python_docx.Document()
    word.add_heading("Report", 0)
    word.add_paragraph("intro\r\nline")
    word.add_heading("Deep\nhead", 3)
    document = _load(tmp_path, word)
    start = document.text.index("Deep\nhead")
    assert document.sections == (Section(0, "heading", "Report", 1), Section(start, "heading", "Deep head", 3))


def test_merged_cells_are_not_repeated(tmp_path: Path) -> None:
    """A cell across columns or rows gives its text once; the cells beside it keep their column."""
    word = python_docx.Document()
    table = word.add_table(3, 3)
    for number, cell in enumerate(table._cells):
        cell.text = str(number)
    table.cell(0, 0).merge(table.cell(0, 1)).text = "wide"
    table.cell(1, 1).merge(table.cell(2, 1)).text = "tall"
    table.rows[2]._tr.tc_lst[1].p_lst[0].add_r().text = "hidden by the merge"
    assert _load(tmp_path, word).text == "wide | 2\n3 | tall | 5\n6 |  | 8"


def test_an_empty_cell_keeps_its_place(tmp_path: Path) -> None:
    """The heads of columns stand over their columns, except behind the last text of a row."""
    word = python_docx.Document()
    table = word.add_table(2, 3)
    for cell, text in zip(table._cells, ("", "x", "y", "1", "2", ""), strict=True):
        cell.text = text
    assert _load(tmp_path, word).text == "| x | y\n1 | 2"


def test_numbered_paragraphs_are_items_whatever_their_style(tmp_path: Path) -> None:
    """Word's list button numbers an ordinary paragraph."""
    word = python_docx.Document()
    for text in ("one", "two"):
        word.add_paragraph(text)._p.get_or_add_pPr().get_or_add_numPr()
    assert _load(tmp_path, word).text == "one\ntwo"


def test_a_nested_table_keeps_its_rows(tmp_path: Path) -> None:
    """A cell around a table is a place, not a value: its content stands on lines of its own."""
    word = python_docx.Document()
    outer = word.add_table(2, 2)
    for cell, text in zip(outer._cells, ("a", "b", "c", "d"), strict=True):
        cell.text = text
    inner = outer.cell(1, 1).add_table(1, 2)
    inner.cell(0, 0).text, inner.cell(0, 1).text = "1", "2"
    assert _load(tmp_path, word).text == "a | b\n\nc\n\nd\n\n1 | 2"


def test_a_frame_of_one_cell_keeps_its_paragraphs(tmp_path: Path) -> None:
    """A box drawn around paragraphs does not glue them."""
    word = python_docx.Document()
    cell = word.add_table(1, 1).cell(0, 0)
    cell.text = "first"
    cell.add_paragraph("second")
    assert _load(tmp_path, word).text == "first\n\nsecond"


W = nsdecls("w")
BOX = "<w:txbxContent><w:p><w:r><w:t>box</w:t></w:r></w:p></w:txbxContent>"
TWO_BOXES = (
    f"<mc:AlternateContent><mc:Choice><w:drawing>{BOX}</w:drawing></mc:Choice>"
    f"<mc:Fallback><w:pict>{BOX}</w:pict></mc:Fallback></mc:AlternateContent>"
)
OLD = "<w:r><w:delText>old</w:delText></w:r>"
MC = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'


@pytest.mark.parametrize(
    ("xml", "text"),
    [
        (f"<w:p {W}><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t></w:r></w:p>", "a\tb\nc"),
        (f"<w:p {W}><w:pPr><w:tabs><w:tab/></w:tabs></w:pPr><w:r><w:t>x</w:t></w:r></w:p>", "x"),
        (f"<w:p {W}><w:ins><w:r><w:t>new</w:t></w:r></w:ins><w:del>{OLD}</w:del></w:p>", "new"),
        (f"<w:p {W}><w:moveFrom><w:r><w:t>old</w:t></w:r></w:moveFrom><w:r><w:t>here</w:t></w:r></w:p>", "here"),
        (f"<w:p {W}><w:hyperlink><w:r><w:t>link</w:t></w:r></w:hyperlink></w:p>", "link"),
        (f"<w:p {W}><w:r><w:t>seen</w:t></w:r><w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r></w:p>", "seen"),
        (f"<w:sdt {W}><w:sdtContent><w:p><w:r><w:t>control</w:t></w:r></w:p></w:sdtContent></w:sdt>", "control"),
        (f"<w:p {W} {MC}><w:r><w:t>by</w:t>{TWO_BOXES}</w:r></w:p>", "by\n\nbox"),
    ],
    ids=["breaks", "tab stops", "tracked", "moved", "link", "hidden", "content control", "text box"],
)
def test_text_that_python_docx_passes_over_is_found(tmp_path: Path, xml: str, text: str) -> None:
    """The text is what Word shows with all changes accepted."""
    word = python_docx.Document()
    word.element.body.insert(0, parse_xml(xml))
    assert _load(tmp_path, word).text == text


@pytest.mark.parametrize(("stated", "title"), [("Stated", "Stated"), ("", "Head"), ("Word Document", "Head")])
def test_the_title_is_that_of_the_properties_or_the_first_heading(tmp_path: Path, stated: str, title: str) -> None:
    """What python-docx states for a file without properties is no title."""
    word = python_docx.Document()
    word.core_properties.title = stated
    word.add_paragraph("intro")
    word.add_heading("Head", 2)
    assert _load(tmp_path, word).title == title


def test_without_title_and_heading_the_stem_serves(tmp_path: Path) -> None:
    """The id is the file's name."""
    word = python_docx.Document()
    word.add_paragraph("text")
    document = _load(tmp_path, word)
    assert (document.document_id, document.title, document.attributes) == ("memo.docx", "memo", {})


def test_an_empty_document_is_refused(tmp_path: Path) -> None:
    """A Word file without a word holds no text."""
    with pytest.raises(DocumentError, match=re.escape(f"{tmp_path / 'memo.docx'} holds no text")):
        _load(tmp_path, python_docx.Document())


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: b"", "is not a readable Word document"),
        (lambda: b"PK\3\4 cut off", "is not a readable Word document"),
        (lambda: _package({}), "is not a readable Word document"),
        (lambda: _package({"hello.txt": b"an ordinary archive"}), "is not a readable Word document"),
        (
            lambda: bytes.fromhex("D0CF11E0A1B11AE1") + bytes(512),
            "is in an old binary format; save it as .docx",
        ),
    ],
)
def test_what_is_no_word_document_is_reported(tmp_path: Path, make: Callable[[], bytes], reason: str) -> None:
    """Damage, another archive and an encrypted file each give one line with the reason."""
    assert _refusal(tmp_path, make()).startswith(reason)


MAIN = "word/document.xml"


@pytest.mark.parametrize(
    ("name", "pattern", "replacement"),
    [
        (MAIN, rb"(?s).*", b"<w:other " + W.encode() + b"/>"),
        (MAIN, rb"(?s).*", b"<w:document " + W.encode() + b"/>"),
        (MAIN, rb"(?s).*", b"no XML"),
        (MAIN, rb'<w:pStyle w:val="[^"]*"', b"<w:pStyle"),
        ("[Content_Types].xml", rb"wordprocessingml\.document\.main", b"spreadsheetml.sheet.main"),
        ("_rels/.rels", rb"relationships/officeDocument", b"relationships/other"),
    ],
    ids=["another root", "no body", "no XML", "a missing attribute", "a spreadsheet", "no main part"],
)
def test_a_package_with_wrong_parts_is_reported(tmp_path: Path, name: str, pattern: bytes, replacement: bytes) -> None:
    """Each of the errors of python-docx becomes one line."""
    parts = _parts()
    damaged = re.sub(pattern, replacement, parts[name], count=1)
    assert damaged != parts[name]
    assert _refusal(tmp_path, _package(parts | {name: damaged})).startswith("is not a readable Word document (")


LOCAL, CENTRAL = (b"PK\3\4", 0), (b"PK\1\2", 2)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [(6, b"\1\0", "is protected by a password"), (8, b"\x63\0", "is not a readable Word document (")],
    ids=["encrypted", "unknown compression"],
)
def test_an_archive_that_cannot_be_unpacked_is_reported(tmp_path: Path, field: int, value: bytes, reason: str) -> None:
    """Both headers of every member say that it is encrypted, or compressed in a way that nobody knows."""
    data = bytearray(_package(_parts()))
    for signature, shift in (LOCAL, CENTRAL):
        for match in re.finditer(re.escape(signature), bytes(data)):
            data[match.start() + shift + field : match.start() + shift + field + 2] = value
    assert _refusal(tmp_path, bytes(data)).startswith(reason)


def test_garbled_compression_is_reported(tmp_path: Path) -> None:
    """The archive's directory is whole, a member is not."""
    data = _package(_parts())
    at = data.index(MAIN.encode()) + len(MAIN)
    garbled = data[:at] + b"\xff" * 50 + data[at + 50 :]
    assert _refusal(tmp_path, garbled).startswith("is not a readable Word document (")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sizes in the archive's directory are enough to refuse it."""
    monkeypatch.setattr(package, "MAX_UNCOMPRESSED_BYTES", 3 * 1024**2)
    monkeypatch.setattr(python_docx, "Document", lambda path: pytest.fail("unpacked"))
    bomb = _package({"a": bytes(2 * 1024**2), "b": bytes(2 * 1024**2)})
    assert _refusal(tmp_path, bomb) == "unpacks to 4 MB, more than 3 MB; split it or leave it out"


def test_a_damaged_package_is_a_document_or_a_document_error(tmp_path: Path) -> None:
    """Wherever bytes are changed, in the archive or in its XML, nothing else is raised."""
    parts = _parts()
    chance = random.Random(8)
    names = sorted(parts)
    path = tmp_path / "memo.docx"
    read = refused = 0
    for _ in range(100):
        name = chance.choice(names)
        at = chance.randrange(len(parts[name]))
        damaged = parts[name][:at] + chance.choice([b"", b"<", b"x", b"\xff"]) + parts[name][at + chance.randrange(9) :]
        data = bytearray(_package(parts | {name: damaged}))
        if chance.random() < 0.5:
            data[chance.randrange(len(data))] ^= 0xFF
        path.write_bytes(bytes(data))
        try:
            docx.load(path)
            read += 1
        except DocumentError:
            refused += 1
    assert read
    assert refused
