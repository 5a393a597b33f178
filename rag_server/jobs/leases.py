"""Keeps the files in flight this process's own, however long one takes to be read or embedded."""

import threading
from types import TracebackType
from typing import Self

import structlog

from rag_server.errors import CancelledByUserError, StoreError
from rag_server.jobs.in_flight import OpenFile
from rag_server.store.files import Files

log = structlog.get_logger()

RENEW_LEASE_S = 30.0


class Leases:
    """Renews the leases of the files that are kept, from a thread of its own, until the end of the context."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._kept: dict[int, OpenFile] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def keep(self, file: OpenFile) -> None:
        """Renew the lease of a file until it is done."""
        self._kept[id(file)] = file

    def _run(self) -> None:
        while not self._ended.wait(RENEW_LEASE_S):
            for key, file in list(self._kept.items()):
                if file.is_done or file.is_lost:
                    del self._kept[key]
                else:
                    self._renew(file)

    def _renew(self, file: OpenFile) -> None:
        try:
            self._files.renew(file.stored, file.bytes_read)
        except CancelledByUserError as error:
            # It may just have been stored to its end.
            if not file.is_done:
                file.faults.append(str(error))
                file.is_lost = True
        except StoreError as error:
            log.warning("a lease could not be renewed", file=file.stored.filename, reason=str(error))
