"""Reads the text of a PDF page by page; scanned pages without a text layer are refused, not recognised."""

import re
import threading
from pathlib import Path

import pypdfium2

from indexers.loaders.text import one_line, whole_file
from rag_server.errors import DocumentError
from rag_server.types import Document

# PDFium keeps global state and must not be entered by two threads.
PDFIUM = threading.Lock()
# PDFium puts this in place of a hyphen that divides a word at a line's end, and drops the line break.
DIVIDED_WORD = "\ufffe"
# What programs write into the title unasked: a file name, or the name of the program.
USELESS_TITLE = re.compile(r"untitled.*|document\d*|microsoft .+ - .*|.*\.\w{2,4}|[\W\d_]*", re.IGNORECASE)
MAX_TITLE_CHARS = 300


def load(path: Path) -> Document:
    """Read the text layer of a PDF."""
    with PDFIUM, path.open("rb") as file:
        try:
            with pypdfium2.PdfDocument(file) as pdf:
                title = pdf.get_metadata_value("Title").strip()
                pages = [_page_text(pdf, number) for number in range(len(pdf))]
        except pypdfium2.PdfiumError as error:
            raise _unreadable(path, error) from error
    text = "\n\n".join(filter(None, pages))
    if not text:
        raise DocumentError(f"{path} holds no text (scanned pages?); run OCR on it first")
    return whole_file(path, title if _is_useful(title) else "", text)


def _page_text(pdf: pypdfium2.PdfDocument, number: int) -> str:
    page = pdf[number]
    try:
        textpage = page.get_textpage()
        try:
            # Not get_text_bounded: it loses text in some files and glues the cells of tables.
            text: str = textpage.get_text_range()
        finally:
            textpage.close()
    finally:
        page.close()
    return text.replace(DIVIDED_WORD, "").strip()


def _unreadable(path: Path, error: pypdfium2.PdfiumError) -> DocumentError:
    if error.err_code == pypdfium2.raw.FPDF_ERR_PASSWORD:
        return DocumentError(f"{path} is protected by a password; save a copy without one")
    return DocumentError(f"{path} is not a readable PDF ({one_line(error)}); repair it or print it to a new PDF")


def _is_useful(title: str) -> bool:
    return len(title) <= MAX_TITLE_CHARS and USELESS_TITLE.fullmatch(title) is None
