"""Names the kinds of files that hold no text for any loader, by their first bytes."""

from collections.abc import Iterator
from typing import NamedTuple

import puremagic

# Its matches by two or three bytes, which are mostly wrong, lie below.
MIN_CONFIDENCE = 0.5
MIN_PROOF_BYTES = 3


class Signature(NamedTuple):
    """Bytes at an offset, what begins with them, and what its owner can do."""

    offset: int
    start: bytes
    name: str
    remedy: str


PICTURE = "run OCR on it, which gives a PDF with text, or leave it out"
RECORDING = "index a transcript of it instead, or leave it out"
PROGRAM = "leave it out"
ARCHIVE = "unpack it and index what it holds"
DATABASE = "export what it holds as .csv"
FONT = "leave it out"

SIGNATURES = (
    Signature(0, b"\x89PNG\r\n", "a picture (PNG)", PICTURE),
    Signature(0, b"\xff\xd8\xff", "a picture (JPEG)", PICTURE),
    Signature(0, b"GIF8", "a picture (GIF)", PICTURE),
    Signature(0, b"BM", "a picture (BMP)", PICTURE),
    Signature(0, b"II*\0", "a picture (TIFF)", PICTURE),
    Signature(0, b"MM\0*", "a picture (TIFF)", PICTURE),
    Signature(8, b"WEBP", "a picture (WebP)", PICTURE),
    Signature(0, b"8BPS", "a picture (Photoshop)", PICTURE),
    Signature(0, b"\0\0\1\0", "a picture (icon)", PICTURE),
    Signature(4, b"ftypheic", "a picture (HEIC)", PICTURE),
    Signature(4, b"ftypavif", "a picture (AVIF)", PICTURE),
    Signature(0, b"AT&TFORM", "a scanned document (DjVu)", PICTURE),
    Signature(8, b"WAVE", "a recording (WAV)", RECORDING),
    Signature(8, b"AVI ", "a film (AVI)", RECORDING),
    Signature(0, b"ID3", "a recording (MP3)", RECORDING),
    Signature(0, b"\xff\xfb", "a recording (MP3)", RECORDING),
    Signature(0, b"OggS", "a recording (Ogg)", RECORDING),
    Signature(0, b"fLaC", "a recording (FLAC)", RECORDING),
    Signature(4, b"ftyp", "a film or recording (MP4)", RECORDING),
    Signature(0, b"\x1a\x45\xdf\xa3", "a film (Matroska)", RECORDING),
    Signature(0, b"\x7fELF", "a program (ELF)", PROGRAM),
    Signature(0, b"MZ", "a program (Windows)", PROGRAM),
    Signature(0, b"\xca\xfe\xba\xbe", "a program (Java class or macOS)", PROGRAM),
    Signature(0, b"\xcf\xfa\xed\xfe", "a program (macOS)", PROGRAM),
    Signature(0, b"\0asm", "a program (WebAssembly)", PROGRAM),
    Signature(0, b"7z\xbc\xaf\x27\x1c", "an archive (7z)", ARCHIVE),
    Signature(0, b"Rar!\x1a", "an archive (RAR)", ARCHIVE),
    Signature(0, b"BZh", "an archive (bzip2)", ARCHIVE),
    Signature(0, b"\xfd7zXZ\0", "an archive (xz)", ARCHIVE),
    Signature(0, b"\x28\xb5\x2f\xfd", "an archive (Zstandard)", ARCHIVE),
    Signature(257, b"ustar", "an archive (tar)", ARCHIVE),
    Signature(0, b"SQLite format 3\0", "a database (SQLite)", DATABASE),
    Signature(0, b"PAR1", "a table (Parquet)", DATABASE),
    Signature(0, b"wOFF", "a font", FONT),
    Signature(0, b"wOF2", "a font", FONT),
    Signature(0, b"OTTO", "a font", FONT),
    Signature(0, b"\0\1\0\0\0", "a font", FONT),
)


def identify(head: bytes, *, looks_like_text: bool) -> tuple[str, str] | None:
    """Return the name and the remedy of what begins with these bytes, which are no text; None if they may yet be some.

    Args:
        head: The first bytes of a file.
        looks_like_text: Whether they may be text by their other bytes; a signature of letters then proves nothing.
    """
    for signature in SIGNATURES:
        if head.startswith(signature.start, signature.offset) and not (looks_like_text and _may_be_written(signature.start)):
            return signature.name, signature.remedy
    name = None if looks_like_text else next(_guesses(head), None)
    return None if name is None else (f"a binary file (probably {name})", "convert it to a kind that is read, or leave it out")


def _may_be_written(start: bytes) -> bool:
    """Tell whether a text may begin with these bytes, in whatever encoding."""
    return len(start) < MIN_PROOF_BYTES or (start.isascii() and start.decode().isprintable())


def _guesses(head: bytes) -> Iterator[str]:
    try:
        matches = puremagic.magic_string(head)
    # It has no other answer for bytes that it does not know.
    except puremagic.PureError:
        return
    for match in matches:
        if match.confidence >= MIN_CONFIDENCE:
            yield match.name or match.extension
