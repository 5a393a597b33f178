"""PDF: the text layer of every page, and a reason when there is none."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from reportlab.lib.pagesizes import A4
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from indexers.loaders import ocr, pdf
from rag_server.errors import DocumentError
from rag_server.types import Section


def _pdf(
    pages: Sequence[str],
    title: str | None = None,
    encrypt: StandardEncryption | None = None,
    page_size: tuple[float, float] = A4,
) -> bytes:
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=page_size, encrypt=encrypt)
    if title is not None:
        canvas.setTitle(title)
    for page in pages:
        for row, line in enumerate(page.split("\n")):
            canvas.drawString(72, 720 - 14 * row, line)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def _write(folder: Path, data: bytes) -> Path:
    path = folder / "report.pdf"
    path.write_bytes(data)
    return path


def test_pages_follow_each_other_with_a_blank_line_between(tmp_path: Path) -> None:
    """Lines and pages keep their order; a page without text leaves no gap."""
    path = _write(tmp_path, _pdf(["First page,\nsecond line.", "", "Last page."]))
    document = pdf.load(path)
    assert document.text == "First page,\nsecond line.\n\nLast page."
    assert document.sections == (Section(0, "page", 1.0), Section(26, "page", 3.0))
    assert document.text[26:].startswith("Last page.")
    assert (document.document_id, document.attributes) == ("report.pdf", {})


def test_a_word_divided_at_the_end_of_a_line_is_whole_again(tmp_path: Path) -> None:
    """A search for the word finds it."""
    assert "very important matter" in pdf.load(_write(tmp_path, _pdf(["a very impor-\ntant matter"]))).text


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("Annual Report 2024", "Annual Report 2024"),
        ("", "report"),
        ("untitled", "report"),
        ("Microsoft Word - draft3", "report"),
        ("draft3.docx", "report"),
        ("---", "report"),
        ("x" * 301, "report"),
    ],
)
def test_only_a_sensible_title_is_taken(tmp_path: Path, written: str, title: str) -> None:
    """What a program wrote there unasked is replaced by the file's stem."""
    assert pdf.load(_write(tmp_path, _pdf(["text"], title=written))).title == title


@pytest.mark.parametrize("strength", [40, 128])
def test_a_pdf_that_needs_a_password_is_named_so(tmp_path: Path, strength: int) -> None:
    """The message tells the reason and the remedy."""
    path = _write(tmp_path, _pdf(["secret"], encrypt=StandardEncryption("user", "owner", strength=strength)))
    with pytest.raises(DocumentError, match=r"report\.pdf is protected by a password; save a copy without one"):
        pdf.load(path)


def test_a_pdf_that_only_forbids_changes_is_read(tmp_path: Path) -> None:
    """A PDF that opens without a password is no protected one."""
    encryption = StandardEncryption("", "owner", canModify=0, canCopy=0)
    assert pdf.load(_write(tmp_path, _pdf(["readable"], encrypt=encryption))).text == "readable"


def test_a_scanned_pdf_is_refused_with_the_remedy(tmp_path: Path) -> None:
    """Pages without a text layer are not indexed as an empty document."""
    with pytest.raises(
        DocumentError, match=r"report\.pdf holds no text \(scanned pages\?\); run OCR on it first, or `pip install rapidocr"
    ):
        pdf.load(_write(tmp_path, _pdf(["", ""])))


def test_a_scanned_pdf_is_read_where_ocr_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page goes through it as an image, whose size is bounded; one that it finds no text on is no section."""
    shapes = []

    def read(image: npt.NDArray[np.uint8]) -> str:
        shapes.append(image.shape)
        return ["", "second page"][len(shapes) - 1]

    monkeypatch.setattr(ocr, "is_installed", lambda: True)
    monkeypatch.setattr(ocr, "read", read)
    document = pdf.load(_write(tmp_path, _pdf(["", ""], page_size=(14_400, 7200))))
    assert document.text == "second page"
    assert document.sections == (Section(0, "page", 2.0),)
    assert shapes == [(2000, 4000, 3)] * 2


@pytest.mark.parametrize("data", [b"", b"not a pdf", b"%PDF-1.7\n%%EOF"])
def test_a_damaged_pdf_is_reported(tmp_path: Path, data: bytes) -> None:
    """PDFium's error becomes one line that starts with the path."""
    path = _write(tmp_path, data)
    with pytest.raises(DocumentError) as caught:
        pdf.load(path)
    assert str(caught.value).startswith(f"{path} is not a readable PDF (")
    assert "\n" not in str(caught.value)


def test_any_cut_of_a_pdf_is_a_document_or_a_document_error(tmp_path: Path) -> None:
    """Wherever a download broke off, nothing else is raised."""
    whole = _pdf(["some text"])
    for length in range(0, len(whole), 40):
        path = _write(tmp_path, whole[:length])
        try:
            outcome = pdf.load(path).text
        except DocumentError as error:
            outcome = str(error)
        assert outcome == "some text" or outcome.startswith(f"{path} ")


def test_threads_take_turns(tmp_path: Path) -> None:
    """PDFium crashes when entered twice at a time; the loader may be called from any thread."""
    path = _write(tmp_path, _pdf([f"page {number}" for number in range(30)]))
    with ThreadPoolExecutor(8) as pool:
        texts = {document.text for document in pool.map(pdf.load, [path] * 40)}
    assert texts == {"\n\n".join(f"page {number}" for number in range(30))}


def test_what_cannot_be_opened_is_an_os_error(tmp_path: Path) -> None:
    """The caller reports a missing file and a folder in its own words."""
    with pytest.raises(FileNotFoundError):
        pdf.load(tmp_path / "missing.pdf")
    with pytest.raises(IsADirectoryError):
        pdf.load(tmp_path)
