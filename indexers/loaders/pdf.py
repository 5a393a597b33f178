"""Reads the text of a PDF page by page; scanned pages are read by OCR where it is installed, and else refused."""

import re
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pypdfium2

from indexers.loaders import ocr
from indexers.loaders.builder import DocumentBuilder
from indexers.loaders.text import one_line
from rag_server.errors import DocumentError
from rag_server.types import Document

# PDFium keeps global state and must not be entered by two threads.
PDFIUM = threading.Lock()
# PDFium puts this in place of a hyphen that divides a word at a line's end, and drops the line break.
DIVIDED_WORD = "\ufffe"
# What programs write into the title unasked: a file name, or the name of the program.
USELESS_TITLE = re.compile(r"untitled.*|document\d*|microsoft .+ - .*|.*\.\w{2,4}|[\W\d_]*", re.IGNORECASE)
MAX_TITLE_CHARS = 300
POINTS_PER_INCH = 72
OCR_DPI = 200
MAX_IMAGE_PIXELS = 4000


def load(path: Path) -> Document:
    """Read the text layer of a PDF, or what OCR makes of its pages where it has none and OCR is installed."""
    with PDFIUM, path.open("rb") as file:
        try:
            with pypdfium2.PdfDocument(file) as pdf:
                title = pdf.get_metadata_value("Title").strip()
                pages = [_page_text(pdf, number) for number in range(len(pdf))]
                if not any(pages) and ocr.is_installed():
                    pages = [ocr.read(_image(pdf, number)) for number in range(len(pdf))]
        except pypdfium2.PdfiumError as error:
            raise _unreadable(path, error) from error
    if not any(pages):
        raise DocumentError(
            f"{path} holds no text (scanned pages?); run OCR on it first, or `pip install rapidocr onnxruntime` to have it read"
        )
    builder = DocumentBuilder()
    for number, page in enumerate(pages, 1):
        builder.start_section("page", float(number))
        builder.add(page)
    return builder.build(path, title if _is_useful(title) else "")


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


def _image(pdf: pypdfium2.PdfDocument, number: int) -> npt.NDArray[np.uint8]:
    """Return a page as an image, whose longer side is bounded however large the page says to be."""
    page = pdf[number]
    try:
        scale = min(OCR_DPI / POINTS_PER_INCH, MAX_IMAGE_PIXELS / max(1.0, *page.get_size()))
        image: npt.NDArray[np.uint8] = page.render(scale=scale, may_draw_forms=False).to_numpy().copy()
    finally:
        page.close()
    return image


def _unreadable(path: Path, error: pypdfium2.PdfiumError) -> DocumentError:
    if error.err_code == pypdfium2.raw.FPDF_ERR_PASSWORD:
        return DocumentError(f"{path} is protected by a password; save a copy without one")
    return DocumentError(f"{path} is not a readable PDF ({one_line(error)}); repair it or print it to a new PDF")


def _is_useful(title: str) -> bool:
    return len(title) <= MAX_TITLE_CHARS and USELESS_TITLE.fullmatch(title) is None
