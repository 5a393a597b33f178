"""What a file is, by its content; its name counts only where text is text."""

import gzip
import io
import zipfile
from pathlib import Path

import docx
import pptx
import pytest

from indexers.loaders import dispatch
from indexers.loaders.sniffing import TEXT_SUFFIXES, sniff
from rag_server.errors import DocumentError, UnsupportedFormatError

OPEN_DOCUMENT = b"application/vnd.oasis.opendocument."
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256))


def _zip(**members: bytes) -> bytes:
    """Return an archive; `__` in a name stands for a slash."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr("[Content_Types].xml" if name == "types" else name.replace("__", "/"), data)
    return file.getvalue()


def _saved(document: object) -> bytes:
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def _ole(stream: str) -> bytes:
    """Return the smallest compound file that holds an empty stream of that name."""
    fat = b"\xfd\xff\xff\xff" + b"\xfe\xff\xff\xff" + b"\xff\xff\xff\xff" * 126
    header = bytes.fromhex("D0CF11E0A1B11AE1") + bytes(16) + bytes.fromhex("3E000300FEFF09000600") + bytes(10)
    for number in (1, 1, 0, 4096, 0xFFFFFFFE, 0, 0xFFFFFFFE, 0):
        header += number.to_bytes(4, "little")
    header += bytes(4) + b"\xff" * 432
    return header + fat + _ole_entry("Root Entry", 5, child=1) + _ole_entry(stream, 2) + bytes(256)


def _ole_entry(name: str, kind: int, child: int = 0xFFFFFFFF) -> bytes:
    encoded = name.encode("utf-16-le") + b"\0\0"
    links = b"\xff" * 8 + child.to_bytes(4, "little")
    entry = encoded.ljust(64, b"\0") + len(encoded).to_bytes(2, "little") + bytes([kind, 1]) + links
    return entry.ljust(116, b"\0") + b"\xfe\xff\xff\xff" + bytes(8)


def _written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


CONTENTS = {
    "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "docx": _saved(docx.Document()),
    "pptx": _saved(pptx.Presentation()),
    "spreadsheet": _zip(types=b"", xl__workbook=b""),
    "odt": _zip(mimetype=OPEN_DOCUMENT + b"text"),
    "epub": _zip(mimetype=b"application/epub+zip\n"),
    "rtf": b"{\\rtf1\\ansi hello}",
    "doc": _ole("WordDocument"),
    "html": b"\n<!DOCTYPE HTML>\n<p>hello",
    "xml": b'<?xml version="1.0"?><a>hello</a>',
}


@pytest.mark.parametrize("name", ["a.txt", "a", "a.unknown", "a.csv", "a.docx", "a.PDF", "a.md", "a.jsonl"])
@pytest.mark.parametrize("format_name", CONTENTS)
def test_content_counts_more_than_the_name(tmp_path: Path, format_name: str, name: str) -> None:
    """A PDF named .txt is a PDF."""
    assert sniff(_written(tmp_path, name, CONTENTS[format_name])) == format_name


@pytest.mark.parametrize(
    ("name", "data", "format_name"),
    [
        ("a.ods", _zip(mimetype=OPEN_DOCUMENT + b"spreadsheet"), "spreadsheet"),
        ("a.xls", _ole("Workbook"), "spreadsheet"),
        ("a.xls", _ole("Book"), "spreadsheet"),
        ("a.epub", _zip(**{"META-INF__container": b"", "META-INF__container.xml": b""}), "epub"),
        ("a.pdf", b"HTTP/1.1 200 OK\r\n\r\n%PDF-1.4\n", "pdf"),
        ("a.bin", b"\0\1\2\3" * 20 + b"%PDF-1.4\n", "pdf"),
        ("a.txt", b"A PDF begins with %PDF-1.7.", "text"),
        ("a.txt", b"<h1>No page</h1>", "text"),
        ("a.txt", b"BMW and MZ made motorcycles.", "text"),
        ("a.txt", b"ID3 is a decision tree.", "text"),
        ("a.txt", b"In HTML, <html> comes first.", "text"),
        ("a.xml", b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "x">', "html"),
        ("a.xhtml", b'<?xml version="1.0"?>\n<!-- -->\n<html>', "html"),
        ("a.php", b"<!DOCTYPE html><?php ?>", "source_code"),
        ("a.html", "<p>hello".encode("utf-16"), "html"),
        ("a.txt", "<html><p>hello".encode("utf-16-le"), "html"),
        ("a.xls", b"<html><table>", "html"),
    ],
)
def test_what_is_less_plain(tmp_path: Path, name: str, data: bytes, format_name: str) -> None:
    """Formats with several kinds of content, and content that is about a format."""
    assert sniff(_written(tmp_path, name, data)) == format_name


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "cp500"])
def test_text_in_any_encoding_is_text(tmp_path: Path, encoding: str) -> None:
    """With or without a mark; EBCDIC is read by the loader of text."""
    text = "Sixteen hours a day a cat will sleep, as émigrés do.\n" * 40
    path = _written(tmp_path, "a.txt", text.encode(encoding))
    assert sniff(path) == "text"
    (document,) = dispatch.load(path, print)
    assert document.text == text or encoding == "cp500"


@pytest.mark.parametrize("suffix", [*sorted(TEXT_SUFFIXES), ".JSON", ".Py"])
def test_the_name_decides_between_kinds_of_text(tmp_path: Path, suffix: str) -> None:
    """Nothing in "hello" says whether it is a table or a program."""
    assert sniff(_written(tmp_path, f"a{suffix}", b"hello")) == TEXT_SUFFIXES[suffix.lower()]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "A.NDJSON.GZ"])
def test_rows_may_be_gzipped(tmp_path: Path, name: str) -> None:
    """And only rows, since they are unpacked as they are read."""
    assert sniff(_written(tmp_path, name, gzip.compress(b"{}"))) == "jsonl"
    assert sniff(_written(tmp_path, name, b"{}")) == "jsonl"


def test_each_format_has_a_loader() -> None:
    """Every name that can be answered stands in the table of loaders."""
    assert {*CONTENTS, *TEXT_SUFFIXES.values(), "text"} == dispatch.LOADERS.keys()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", PNG, "is a picture (PNG); run OCR on it"),
        ("a.pdf", PNG, "is a picture (PNG); run OCR on it"),
        ("a.png", PNG[:6], "is a picture (PNG); run OCR on it"),
        ("a", b"\xff\xd8\xff\xe0" + bytes(range(256)), "is a picture (JPEG)"),
        ("a.doc", b"ID3\4" + bytes(200), "is a recording (MP3); index a transcript"),
        ("a.md", b"\x7fELF" + bytes(200), "is a program (ELF); leave it out"),
        ("a.txt", b"SQLite format 3\0" + bytes(200), "is a database (SQLite); export what it holds as .csv"),
        ("a.tar", b"a.txt".ljust(257, b"\0") + b"ustar", "is an archive (tar); unpack it"),
        ("a.docx", _zip(a=b"hello"), "is an archive (zip); unpack it"),
        ("a.txt.gz", gzip.compress(b"hello", mtime=0), "is an archive (gzip); unpack it"),
        ("a.jsonl", gzip.compress(b"{}", mtime=0), "is an archive (gzip); unpack it"),
        ("a.odp", _zip(mimetype=OPEN_DOCUMENT + b"presentation"), "is an OpenDocument presentation; save it as .pdf"),
        ("a.ppt", _ole("PowerPoint Document"), "is a presentation in the old format; save it as .pptx"),
        ("a.msg", _ole("__properties_version1.0"), "is a message of Outlook; save it as .eml"),
        ("a.doc", _ole("Contents"), "is an old Office file of no known kind"),
        ("a.xyz", b"\0\1", "is a binary file of no known kind; convert it to .pdf or .txt, name it .txt if it is text"),
        ("a", bytes([1, 2, 3, 0x80, 0x99, 0xF3]) * 50, "is a binary file of no known kind"),
    ],
)
def test_what_no_loader_reads_is_named(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    """With what can be done about it."""
    path = _written(tmp_path, name, data)
    with pytest.raises(UnsupportedFormatError) as caught:
        sniff(path)
    assert str(caught.value).startswith(f"{path} {message}")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.pdf", b"", "holds no text"),
        ("a.jsonl.gz", b"", "holds no text"),
        ("a.eml", b" \r\n\t\n", "holds no text"),
        ("a.odt", b"This is not a zip file!", "is not a readable .odt file, whatever its name says"),
        ("a.pdf", b"hello", "is not a readable .pdf file, whatever its name says"),
        ("a.docx", CONTENTS["docx"][:700], "is a damaged or cut-off package"),
        ("a.doc", CONTENTS["doc"][:600], "is a damaged Office document"),
        ("a.xlsx", _ole("EncryptedPackage"), "is protected by a password; save a copy without one"),
    ],
)
def test_what_cannot_be_read_is_an_error(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    """Of this file, not of its format."""
    path = _written(tmp_path, name, data)
    with pytest.raises(DocumentError) as caught:
        sniff(path)
    assert str(caught.value).startswith(f"{path} {message}")
    assert type(caught.value) is DocumentError


def test_bytes_that_may_be_text_are_left_to_the_loader_of_text(tmp_path: Path) -> None:
    """If they are named so: it knows more encodings, and says when it is none of them."""
    path = _written(tmp_path, "a.txt", bytes([1, 2, 3, 0x80, 0x99, 0xF3]) * 50)
    assert sniff(path) == "text"
    with pytest.raises(DocumentError, match="is not text but a binary file"):
        list(dispatch.load(path, print))
