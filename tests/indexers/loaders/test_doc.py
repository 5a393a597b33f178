"""Legacy Word: the text by its piece table."""

import struct
from pathlib import Path

import pytest

from indexers.loaders import doc
from rag_server.errors import DocumentError
from rag_server.types import Document

SIGNATURE = bytes.fromhex("D0CF11E0A1B11AE1")
SECTOR, END_OF_CHAIN, FREE = 512, 0xFFFFFFFE, 0xFFFFFFFF
# The smallest stream that stands in sectors of its own.
STREAM_SIZE = 4096
TEXT_AT = 0x800


def _ole(streams: dict[str, bytes]) -> bytes:
    """Return a compound file: a header, one sector of the allocation table, one of the directory, then the streams."""
    chains, sectors = [0xFFFFFFFD, END_OF_CHAIN], b""
    entries = [_entry("Root Entry", 5, 1, END_OF_CHAIN, 0)]
    for number, (name, stream) in enumerate(streams.items(), 1):
        data = stream.ljust(-(-max(len(stream), STREAM_SIZE) // SECTOR) * SECTOR, b"\0")
        following = number + 1 if number < len(streams) else FREE
        entries.append(_entry(name, 2, FREE, len(chains), len(data), following))
        first = len(chains)
        chains += [*range(first + 1, first + len(data) // SECTOR), END_OF_CHAIN]
        sectors += data
    header = struct.pack("<8s16xHHHHH6xIIIIIIIII", SIGNATURE, 0x3E, 3, 0xFFFE, 9, 6, 0, 1, 1, 0, 4096, *(END_OF_CHAIN, 0) * 2)
    header += struct.pack("<109I", 0, *[FREE] * 108)
    table = struct.pack("<128I", *chains, *[FREE] * (128 - len(chains)))
    return header + table + b"".join(entries).ljust(SECTOR, b"\0") + sectors


def _entry(name: str, kind: int, child: int, start: int, size: int, right: int = FREE) -> bytes:
    written = name.encode("utf-16-le") + b"\0\0"
    return struct.pack("<64sHBBIII36xIQ", written, len(written), kind, 1, FREE, right, child, start, size)


def _streams(pieces: list[tuple[str, bool]], lengths: tuple[int, ...] = (), flags: int = 0x0200) -> dict[str, bytes]:
    """Return the streams of a document of pieces, each as bytes or as UTF-16."""
    text, starts, places = b"", [0], b""
    for piece, is_compressed in pieces:
        at = TEXT_AT + len(text)
        data = piece.encode("cp1252" if is_compressed else "utf-16-le")
        places += struct.pack("<HIH", 0, at * 2 | 0x40000000 if is_compressed else at, 0)
        starts.append(starts[-1] + (len(data) if is_compressed else len(data) // 2))
        text += data
    plc = struct.pack(f"<{len(starts)}I", *starts) + places
    table = b"\1\4\0prop" + b"\2" + struct.pack("<I", len(plc)) + plc
    main = bytearray(TEXT_AT) + text
    struct.pack_into("<HH", main, 0, 0xA5EC, 0xC1)
    struct.pack_into("<H", main, 0x0A, flags)
    lengths = lengths or (starts[-1],)
    struct.pack_into(f"<{len(lengths)}I", main, 0x4C, *lengths)
    struct.pack_into("<II", main, 0x1A2, 8, len(table))
    return {"WordDocument": bytes(main), "1Table" if flags & 0x0200 else "0Table": bytes(8) + table}


def _load(folder: Path, data: bytes) -> Document:
    path = folder / "letter.doc"
    path.write_bytes(data)
    return doc.load(path)


def _text(folder: Path, text: str) -> str:
    return _load(folder, _ole(_streams([(text, False)]))).text


@pytest.mark.parametrize("flags", [0x0200, 0])
def test_pieces_follow_each_other_whatever_their_encoding(tmp_path: Path, flags: int) -> None:
    """The flags say which of two streams holds the piece table."""
    document = _load(tmp_path, _ole(_streams([("“Caf\xe9”\r", True), ("Привет 😀", False), ("!\r", True)], flags=flags)))
    assert document == Document("letter.doc", "letter", "“Café”\nПривет 😀!")


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("a\rb\x0bc\x0cd", "a\nb\nc\n\nd"),
        ("a\x07b\x07\x07c\x07d\x07\x07end", "a | b\nc | d\nend"),
        ('see \x13 HYPERLINK "http://x" \x14the site\x15!', "see the site!"),
        ("\x13 TOC \x14\x13 PAGEREF \x13 A \x14x\x15 \x143\x15\x15 end", "3 end"),
        ("\x13 PAGE \x15end", "end"),
        ("non\x1ebreaking op\x1ftional \x01\x02\x08x", "non-breaking optional x"),
    ],
    ids=["ends", "table", "link", "nested", "without result", "special"],
)
def test_marks_become_text_or_vanish(tmp_path: Path, written: str, text: str) -> None:
    assert _text(tmp_path, written) == text


def test_notes_and_text_boxes_follow_and_headers_are_left_out(tmp_path: Path) -> None:
    parts = ["main\r", "foot\r", "head\r", "", "comment\r", "end\r", "box\r", "head box\r"]
    streams = _streams([("".join(parts), True)], tuple(map(len, parts)))
    assert _load(tmp_path, _ole(streams)).text == "main\n\nfoot\n\nend\n\nbox"


def test_the_title_is_that_of_the_properties_in_their_code_page(tmp_path: Path) -> None:
    title = "Письмо".encode("cp1251") + b"\0"
    values = struct.pack("<IhHII", 2, 1251, 0, 30, len(title)) + title
    section = struct.pack("<IIIIII", 24 + len(values), 2, 1, 24, 2, 32) + values
    summary = (
        struct.pack("<HHI16xI", 0xFFFE, 0, 0, 1) + bytes.fromhex("E0859FF2F94F6810AB9108002B27B3D9") + struct.pack("<I", 48)
    )
    assert _load(tmp_path, _ole(_streams([("x", True)]) | {"\5SummaryInformation": summary + section})).title == "Письмо"


def test_an_encrypted_document_needs_a_password(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"letter\.doc is protected by a password; save a copy without one"):
        _load(tmp_path, _ole(_streams([("noise", True)], flags=0x0300)))


def _with(at: int, value: bytes) -> bytes:
    streams = _streams([("text", True)])
    main = bytearray(streams["WordDocument"])
    main[at : at + len(value)] = value
    return _ole(streams | {"WordDocument": bytes(main)})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"plain text",
        b"{\\rtf1 text}",
        SIGNATURE + bytes(2000),
        _ole({"Workbook": b""}),
        _with(0, b"\0\0"),
        _with(2, b"\x65\0"),
        _with(0x1A2, b"\xff\xff\xff\x7f"),
        _with(0x1A6, b"\0\0\0\0"),
    ],
    ids=["empty", "text", "rtf", "zeros", "a workbook", "signature", "Word 95", "table outside", "no table"],
)
def test_what_is_no_such_document_is_reported(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(
        DocumentError, match=r"^\S+letter\.doc is not a readable Word document \(.*\); save it again as \.docx$"
    ):
        _load(tmp_path, data)


def test_a_document_without_text_holds_none(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"letter\.doc holds no text"):
        _text(tmp_path, "\r\x07\x07")


def test_any_cut_of_a_document_is_a_document_or_a_document_error(tmp_path: Path) -> None:
    whole = _ole(_streams([("some text", True), ("другой", False)]))
    outcomes = []
    for length in range(0, len(whole), 100):
        try:
            outcomes.append(_load(tmp_path, whole[:length]).text)
        except DocumentError as error:
            outcomes.append(str(error))
    assert all("\n" not in outcome for outcome in outcomes)
