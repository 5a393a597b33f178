"""Reads the text of a file in Rich Text Format."""

import re
from pathlib import Path

from striprtf.striprtf import rtf_to_text

from indexers.loaders.text import one_line, whole_file
from rag_server.errors import DocumentError
from rag_server.types import Document

SIGNATURE = b"{\\rtf"
CODE_PAGE = re.compile(rb"\\ansicpg(\d{1,5})")
DEFAULT_CODE_PAGE = "cp1252"
TITLE = re.compile(r"\{\\title\s+([^{}\\]*)\}")
# striprtf searches the rest of the line behind each of them; line ends count for nothing in RTF.
FIELD = re.compile(r"(?<!\\)\{\\field\b")
# striprtf ends every cell of a row with a bar.
CELL_END = re.compile(r"\s*\|\s*")


def load(path: Path) -> Document:
    """Read an .rtf file; its title is that of its properties."""
    data = path.read_bytes()
    if not data.startswith(SIGNATURE):
        raise _unreadable(path, "it does not start with {\\rtf")
    written = _decode(data)
    title = TITLE.search(written)
    try:
        text: str = rtf_to_text(FIELD.sub("\n\\g<0>", written), encoding=DEFAULT_CODE_PAGE, errors="replace")  # type: ignore[no-untyped-call]
        # Characters outside of the Basic Multilingual Plane are written as two halves; one alone is damage.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except (ValueError, LookupError, OverflowError) as error:
        raise _unreadable(path, one_line(error)) from error
    return whole_file(path, title[1] if title else "", "\n".join(map(_line, text.split("\n"))).strip())


def _decode(data: bytes) -> str:
    """Return the file as text: RTF is ASCII, but some programs write the bytes of their code page into it."""
    code_page = CODE_PAGE.search(data)
    try:
        return data.decode(f"cp{int(code_page[1])}" if code_page else DEFAULT_CODE_PAGE, "replace")
    except LookupError:
        return data.decode(DEFAULT_CODE_PAGE, "replace")


def _line(line: str) -> str:
    if not line.endswith("|"):
        return line
    return CELL_END.sub(" | ", line).rstrip(" |").strip()


def _unreadable(path: Path, reason: str) -> DocumentError:
    return DocumentError(f"{path} is not a readable RTF document ({reason}); save it again as .rtf")
