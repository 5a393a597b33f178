"""Files as they were indexed: from the store, or from the disk as long as they are the same there, byte for byte."""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rag_server.config import ChunkingSettings
from rag_server.errors import NotFoundError
from rag_server.fingerprints import fingerprint_of, parts_of
from rag_server.store.file_rows import UPLOAD
from rag_server.store.uploads import Uploads
from rag_server.types import Access, StoredFile


@dataclass(frozen=True, slots=True)
class Original:
    """The bytes of a file, in parts; they can be read once."""

    filename: str
    num_bytes: int
    parts: Iterator[bytes]


def original_of(file: StoredFile, uploads: Uploads, chunking: ChunkingSettings, *, tenant: str) -> Original:
    """Return what the file was indexed from.

    Args:
        file: One that the caller may read.
        uploads: Where its bytes are if it was uploaded.
        chunking: The settings that the file was cut by, if they are the same today.
        tenant: Whose file it is; whoever may read a file may read what it was made of.

    Raises:
        NotFoundError: It is not there any more, or is another one; the message says what to do.
    """
    if file.source.startswith(UPLOAD):
        upload = uploads.get(file.source.removeprefix(UPLOAD), Access(tenant))
        return Original(file.filename, upload.bytes, uploads.content(upload.id))
    path = Path(file.source)
    if not path.is_absolute():
        raise _gone(file)
    try:
        opened = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 - closed by whoever reads the parts
    except OSError:
        raise _gone(file) from None
    try:
        parts = _checked_parts(opened, file, chunking)
    except BaseException:
        opened.close()
        raise
    return Original(file.filename, file.bytes, parts)


def _without_waiting(path: str, flags: int) -> int:
    # A pipe in the place of the file would be waited for.
    return os.open(path, flags | os.O_NONBLOCK)


def _checked_parts(opened: BinaryIO, file: StoredFile, chunking: ChunkingSettings) -> Iterator[bytes]:
    """Return the parts of a file that was read to its end and found to be the one that was indexed; it is closed after them."""
    seals: list[bytes] = []

    def sealed() -> Iterator[bytes]:
        for part in parts_of(opened):
            seals.append(hashlib.sha256(part).digest())
            yield part

    state = os.fstat(opened.fileno())
    is_same = stat.S_ISREG(state.st_mode) and state.st_size == file.bytes
    if not is_same or fingerprint_of(sealed(), chunking) != file.fingerprint:
        raise _changed(file)
    opened.seek(0)
    return _read_again(opened, file, seals)


def _read_again(opened: BinaryIO, file: StoredFile, seals: list[bytes]) -> Iterator[bytes]:
    """Yield the parts; one that was written to since it was checked is not handed out."""
    with opened:
        parts = parts_of(opened)
        for seal in seals:
            part = next(parts, b"")
            if hashlib.sha256(part).digest() != seal:
                raise _changed(file)
            yield part


def _gone(file: StoredFile) -> NotFoundError:
    return NotFoundError(
        f"{file.filename} is not where it was indexed from any more, or cannot be read there; put it back, or run "
        "`rag-server index` again with where it is now"
    )


def _changed(file: StoredFile) -> NotFoundError:
    return NotFoundError(
        f"{file.filename}, or how files are cut, has changed since it was indexed; run `rag-server index` again, then ask for "
        "its new passages"
    )
