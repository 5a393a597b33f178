"""Reads plain text in whatever encoding it was saved, and holds what every loader does to text."""

import codecs
import re
from collections.abc import Iterable
from pathlib import Path

import charset_normalizer

from rag_server.errors import DocumentError
from rag_server.types import Document, Section

# UTF-32 before UTF-16: the mark of UTF-32-LE starts with the mark of UTF-16-LE.
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
CONTROL_CHARACTERS = [chr(code) for code in range(32) if chr(code) not in "\t\n\v\f\r\x1b"]
# Text has next to none; one byte in ten of a compressed or compiled file is one.
MAX_CONTROL_SHARE = 0.02
# A file patched by hand is still UTF-8; a file in another encoding has hardly a valid character.
MAX_DAMAGED_SHARE = 0.05
# Guesses for Western text tie, often with the Central European code page in front; only there are these letters common.
WESTERN_CODE_PAGE = "cp1252"
CENTRAL_EUROPEAN = frozenset("šžŠŽ")
NEAR_TIE = 0.1
# With fewer, such as the one accent of an English page, the guess is arbitrary.
MIN_FOREIGN_BYTES = 4
ASCII = bytes(range(128))
# Guessed for a few bytes of anything; real text in them without a mark has a NUL beside each space.
WIDE_ENCODINGS = ["utf_16", "utf_16_le", "utf_16_be", "utf_32", "utf_32_le", "utf_32_be"]


def load(path: Path) -> Document:
    """Read a plain text file."""
    return whole_file(path, path.stem, decode(path, path.read_bytes()))


def whole_file(path: Path, title: str, text: str, sections: Iterable[Section] = ()) -> Document:
    """Return the document that is the file at `path`; its title is the file's stem when `title` is blank.

    Sections count in cleaned text: who gives them has cleaned the text before.
    """
    text = clean(text)
    if not text.strip():
        raise DocumentError(f"{path} holds no text")
    title = " ".join(clean(title).split())
    return Document(document_id=path.name, title=title or path.stem, text=text, sections=tuple(sections))


def clean(text: str) -> str:
    """Remove what no database stores (NUL, lone surrogates) and write every line end as a newline."""
    return UNSTORABLE.sub("", text).replace("\r\n", "\n").replace("\r", "\n")


def one_line(error: Exception) -> str:
    """Return a library's error as a single line for a message."""
    return " ".join(str(error).split()) or type(error).__name__


def decode(path: Path, data: bytes) -> str:
    """Return the text of a file: by its byte order mark, as UTF-8, or as the likeliest other encoding."""
    marked = decode_marked(path, data)
    if marked is not None:
        return marked
    text = decode_as(data, "utf-8")
    if text is None or _is_binary(text):
        text = _detect(data)
    if text is None or _is_binary(text):
        raise DocumentError(f"{path} is not text but a binary file; give it the suffix of its format or leave it out")
    return text


def decode_marked(path: Path, data: bytes) -> str | None:
    """Return the text of a file that starts with a byte order mark, None if it has none."""
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            try:
                return data[len(mark) :].decode(encoding)
            except UnicodeDecodeError as error:
                raise DocumentError(
                    f"{path} is marked as {encoding} but byte {error.start} is not; save it as UTF-8"
                ) from error
    return None


def decode_as(data: bytes, encoding: str) -> str | None:
    """Return the text of `data` in `encoding`, None if more than a few of its characters would be lost."""
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        text = data.decode(encoding, "replace")
        is_cut = error.reason == "unexpected end of data"
    foreign = len(text) - len(text.encode("ascii", "ignore"))
    lost = text.count("\ufffd")
    return text if lost < foreign and lost <= max(MAX_DAMAGED_SHARE * foreign, is_cut) else None


def _detect(data: bytes) -> str | None:
    """Return the text of `data` in its likeliest encoding, None if no encoding makes text of it."""
    may_be_wide = b"\0" in data
    if not may_be_wide and len(data.translate(None, ASCII)) < MIN_FOREIGN_BYTES:
        return data.decode(WESTERN_CODE_PAGE, "replace")
    matches = charset_normalizer.from_bytes(data, cp_exclusion=[] if may_be_wide else WIDE_ENCODINGS)
    best = matches.best()
    if best is None:
        return None
    for match in matches:
        near = match.chaos <= best.chaos + NEAR_TIE and match.coherence >= best.coherence - NEAR_TIE
        if near and match.encoding == WESTERN_CODE_PAGE and CENTRAL_EUROPEAN.isdisjoint(str(match)):
            return str(match)
    return str(best)


def _is_binary(text: str) -> bool:
    return sum(map(text.count, CONTROL_CHARACTERS)) > MAX_CONTROL_SHARE * len(text)
