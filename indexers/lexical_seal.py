"""Finds damage in a tantivy folder before tantivy reads it: tantivy writes checksums but compares none on opening."""

import hashlib
import json
import os
import zlib
from pathlib import Path

from indexers.snapshot_files import READ_BYTES, replace_durably

META = "meta.json"
SEAL = "meta.sha256"
# tantivy ends every file of a segment with a description in JSON, its length and this number.
FOOTER_MAGIC = 1337
TRAILER_BYTES = 8
SEGMENT_PARTS = ("fast", "fieldnorm", "idx", "pos", "store", "term")


def seal(folder: Path) -> None:
    """Record the hash of the description of the index, which has no checksum of its own."""
    replace_durably(folder / SEAL, hashlib.sha256((folder / META).read_bytes()).hexdigest().encode())


def break_seal(folder: Path) -> None:
    """Say that the description is about to change; a process that is killed meanwhile leaves an index that is whole."""
    (folder / SEAL).unlink(missing_ok=True)


def check(folder: Path) -> None:
    """Raise ValueError or OSError if a file of the index in `folder` is not as it was written."""
    if not (folder / META).exists():
        return
    meta = (folder / META).read_bytes()
    if (folder / SEAL).exists() and (folder / SEAL).read_bytes() != hashlib.sha256(meta).hexdigest().encode():
        raise ValueError(f"the checksum of {META} is not the expected one")
    segments = {segment["segment_id"].replace("-", "") for segment in json.loads(meta)["segments"]}
    # Of deletions there is a file only where there are any; tantivy itself misses it on opening.
    required = {f"{segment}.{part}" for segment in segments for part in SEGMENT_PARTS}
    present = {path.name for path in folder.iterdir()}
    if missing := sorted(required - present):
        raise ValueError(f"{missing[0]} is missing")
    # Files of other segments are left over from a merge and are not read.
    for name in sorted(name for name in present if name.partition(".")[0] in segments):
        _check_footer(folder / name)


def _check_footer(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - TRAILER_BYTES))
        trailer = file.read(TRAILER_BYTES)
        length = int.from_bytes(trailer[:4], "little")
        start = size - TRAILER_BYTES - length
        if len(trailer) < TRAILER_BYTES or int.from_bytes(trailer[4:], "little") != FOOTER_MAGIC or start < 0:
            raise ValueError(f"{path.name} is cut off")
        file.seek(start)
        expected = json.loads(file.read(length))["crc"]
        file.seek(0, os.SEEK_SET)
        checksum, left = 0, start
        while left > 0 and (piece := file.read(min(READ_BYTES, left))):
            checksum = zlib.crc32(piece, checksum)
            left -= len(piece)
    if checksum != expected:
        raise ValueError(f"the checksum of {path.name} is not the expected one")
