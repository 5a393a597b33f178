"""Reads the text of a legacy Word document (.doc, Word 97 to 2003).

No maintained library reads this format. What is needed of it is small, and specified in [MS-DOC]: the File Information
Block at the start of the main stream says where the piece table lies in the table stream, and the piece table says where
the text lies in the main stream, piece by piece.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import olefile

from indexers.loaders.package import DAMAGE, Format, needs_password, unreadable
from indexers.loaders.text import whole_file
from rag_server.types import Document

FORMAT = Format("Word document", ".docx")
MAIN_STREAM = "WordDocument"
# Offsets into the File Information Block ([MS-DOC] 2.5), its signature and its flags.
SIGNATURE_AT, VERSION_AT, FLAGS_AT, LENGTHS_AT, PIECE_TABLE_AT = 0, 2, 0x0A, 0x4C, 0x1A2
SIGNATURE, FIRST_VERSION = 0xA5EC, 0x00C1
ENCRYPTED, SECOND_TABLE = 0x0100, 0x0200
# The parts of the text in their order ([MS-DOC] 2.3): those kept are what a reader sees once.
PARTS = ("main", "footnotes", "headers", "macros", "comments", "endnotes", "text boxes", "text boxes of headers")
KEPT = frozenset(("main", "footnotes", "endnotes", "text boxes"))
# What starts the two kinds of entries before the piece table ([MS-DOC] 2.9.38).
PROPERTIES, PIECES = 1, 2
COMPRESSED = 0x40000000
FIELD = re.compile("[\x13-\x15]")
FIELD_BEGIN, FIELD_SEPARATOR = "\x13", "\x14"
# The mark of a row follows that of its last cell; only styles would tell it from the mark of an empty cell.
ROW_END = re.compile("\x07\x07+")
CHARACTERS = str.maketrans({"\r": "\n", "\x0b": "\n", "\x0c": "\n\n", "\x0e": "\n", "\x07": " | ", "\x1e": "-"})
# Anchors of pictures, notes and drawings, and optional hyphens.
DROPPED = re.compile("[\x00-\x06\x08\x0f-\x1d\x1f]")


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text: the number of its characters and their place in the main stream."""

    length: int
    offset: int
    is_compressed: bool


def load(path: Path) -> Document:
    """Read a .doc file; its title is that of its properties."""
    with path.open("rb") as file:
        try:
            with olefile.OleFileIO(file) as ole:
                main = ole.openstream(MAIN_STREAM).read()
                flags = _flags(path, main)
                table = ole.openstream("1Table" if flags & SECOND_TABLE else "0Table").read()
                title = _title(ole)
            text = "\n\n".join(filter(None, map(_plain, _parts(main, table))))
        except (struct.error, *DAMAGE) as error:
            raise unreadable(path, FORMAT, error) from error
    return whole_file(path, title, text)


def _flags(path: Path, main: bytes) -> int:
    """Return the flags of the document, once it is known to be one that can be read."""
    signature, version = _uint16(main, SIGNATURE_AT), _uint16(main, VERSION_AT)
    if signature != SIGNATURE or version < FIRST_VERSION:
        raise ValueError("it is older than Word 97")
    flags = _uint16(main, FLAGS_AT)
    if flags & ENCRYPTED:
        raise needs_password(path)
    return flags


def _title(ole: olefile.OleFileIO) -> str:
    properties = ole.get_metadata()
    title = properties.title or b""
    try:
        return str(title.decode(f"cp{properties.codepage}"))
    except (LookupError, ValueError):
        return str(title.decode("cp1252", "replace"))


def _parts(main: bytes, table: bytes) -> Iterator[str]:
    """Yield the parts of the text that are kept."""
    text = "".join(_piece_text(main, piece) for piece in _pieces(_piece_table(main, table)))
    start = 0
    for number, name in enumerate(PARTS):
        length = _uint32(main, LENGTHS_AT + 4 * number)
        if name in KEPT:
            yield text[start : start + length]
        start += length


def _piece_table(main: bytes, table: bytes) -> bytes:
    """Return the piece table, which stands behind any number of properties."""
    at, size = _uint32(main, PIECE_TABLE_AT), _uint32(main, PIECE_TABLE_AT + 4)
    end = at + size
    while at < end and table[at] == PROPERTIES:
        at += 3 + _uint16(table, at + 1)
    if at >= end or table[at] != PIECES:
        raise ValueError("it has no piece table")
    return table[at + 5 : at + 5 + _uint32(table, at + 1)]


def _pieces(table: bytes) -> Iterator[Piece]:
    """Yield the pieces: their starts and the end of the last, 4 bytes each, then 8 bytes for the place of each."""
    count = (len(table) - 4) // 12
    starts = struct.unpack_from(f"<{count + 1}I", table)
    for number, (start, end) in enumerate(pairwise(starts)):
        place = _uint32(table, 4 * (count + 1) + 8 * number + 2)
        is_compressed = bool(place & COMPRESSED)
        offset = place & (COMPRESSED - 1)
        yield Piece(max(0, end - start), offset // 2 if is_compressed else offset, is_compressed)


def _piece_text(main: bytes, piece: Piece) -> str:
    if piece.is_compressed:
        return main[piece.offset : piece.offset + piece.length].decode("cp1252", "replace")
    # One character per unit, so that the lengths of the parts hold; halves are joined at the end.
    units = main[piece.offset : piece.offset + 2 * piece.length]
    return "".join(map(chr, struct.unpack(f"<{len(units) // 2}H", units[: len(units) // 2 * 2])))


def _plain(part: str) -> str:
    """Return a part without what only Word reads."""
    text = ROW_END.sub("\n", "".join(_without_field_codes(part)))
    text = DROPPED.sub("", text).translate(CHARACTERS)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").strip()


def _without_field_codes(part: str) -> Iterator[str]:
    """Yield the text outside of fields and the results within them; a field may stand in another's code."""
    # One entry per open field: whether its code is being read.
    codes: list[bool] = []
    start = 0
    for mark in FIELD.finditer(part):
        if not any(codes):
            yield part[start : mark.start()]
        start = mark.end()
        if mark[0] == FIELD_BEGIN:
            codes.append(True)
        elif codes and mark[0] == FIELD_SEPARATOR:
            codes[-1] = False
        elif codes:
            codes.pop()
    # A field that never ends is no field.
    yield part[start:]


def _uint16(data: bytes, at: int) -> int:
    return int.from_bytes(_exactly(data, at, 2), "little")


def _uint32(data: bytes, at: int) -> int:
    return int.from_bytes(_exactly(data, at, 4), "little")


def _exactly(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise ValueError("it is cut off")
    return data[at : at + size]
