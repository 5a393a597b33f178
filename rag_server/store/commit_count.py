"""Counts acknowledged transactions beside the SQLite file: SQLite drops those of a damaged log without a word."""

import os
import zlib
from pathlib import Path

import structlog

from rag_server.errors import StoreDamagedError, StoreError

log = structlog.get_logger()


class CommitCount:
    """A small file with the number and its checksum. It is not synced: it guards against damage, not against power cuts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def write(self, count: int) -> None:
        """Record that `count` transactions are durable."""
        line = b"%020d" % count
        try:
            if self._descriptor is None:
                self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            os.pwrite(self._descriptor, line + b" %08x\n" % zlib.crc32(line), 0)
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}; make the data directory writable and free some space") from error

    def check(self, stored: int, database: Path) -> None:
        """Compare with the number in the database.

        Raises:
            StoreDamagedError: The database holds fewer transactions than were acknowledged.
        """
        acknowledged = self._read()
        if acknowledged is not None and acknowledged > stored:
            raise StoreDamagedError(
                f"{database} holds {stored} of {acknowledged} acknowledged changes: its write-ahead log was damaged or cut "
                f"off; restore both from a backup, or remove {self._path} to go on with what is left and index again"
            )

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _read(self) -> int | None:
        try:
            line, checksum = self._path.read_bytes().split()
            if int(checksum, 16) != zlib.crc32(line):
                raise ValueError("its checksum is wrong")
            return int(line)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("the count of acknowledged changes is damaged and starts anew", path=str(self._path), reason=str(error))
            return None
