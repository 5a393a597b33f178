"""Files that survive a crash: written aside, made durable, then renamed; checked by size and SHA-256 before they are used."""

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rag_server.errors import StoreError

READ_BYTES = 1 << 20
LOCK_TIMEOUT_S = 60.0
# Size in bytes and SHA-256.
Fingerprint = tuple[int, str]
Write = Callable[[bytes | memoryview], int]


def fingerprint(path: Path) -> Fingerprint:
    """Return the size and hash of a file, read piece by piece."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
            size += len(piece)
    return size, digest.hexdigest()


def write_durably(path: Path, fill: Callable[[Write], object]) -> Fingerprint:
    """Let `fill` write a file through the function that it is given; the file is on the disk when this returns.

    Whatever goes wrong, no half of a file stays behind.
    """
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("xb") as file:

            def write(piece: bytes | memoryview) -> int:
                nonlocal size
                digest.update(piece)
                size += len(piece)
                return file.write(piece)

            fill(write)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return size, digest.hexdigest()


def replace_durably(path: Path, content: bytes) -> None:
    """Put `content` in the place of the file at once; it is on the disk when this returns."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    write_durably(temporary, lambda write: write(content))
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file that every process of the data directory respects, made on the spot if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    message = f"another process has kept {path} locked for {LOCK_TIMEOUT_S:.0f} s: end it, then try again"
                    raise StoreError(message) from error
                time.sleep(0.02)
        yield


@contextlib.contextmanager
def store_errors(what: str, folder: Path) -> Iterator[None]:
    """Turn a disk that is full, read-only or failing into an error that says what to do."""
    try:
        yield
    except OSError as error:
        message = f"cannot read or write the {what} in {folder}: {error}; free some space there or make the folder writable"
        raise StoreError(f"{message}, then try again (nothing is lost: what is not saved is rebuilt)") from error
