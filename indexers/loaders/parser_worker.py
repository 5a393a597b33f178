"""Reads files in a process of its own, within limits; started and told what to read by `parser_process.py`.

    python -m indexers.loaders.parser_worker LIMITS DISPATCH

LIMITS is a JSON object, DISPATCH the name of the module whose `load` reads a file. Requests come on standard input, as paths;
its end means: end.
"""

import importlib
import json
import math
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from indexers.loaders.parser_protocol import MIB, Done, Failure, Limits, Read, Ready, Reply, encode, read_frame, write_frame
from indexers.loaders.text import one_line
from rag_server.child_guard import PR_SET_PDEATHSIG, prctl
from rag_server.errors import DocumentError, UnsupportedFormatError
from rag_server.types import Document

# Enough for the compiled modules that an import writes.
MAX_WRITTEN_BYTES = 16 * MIB

Load = Callable[..., Iterator[Document | DocumentError]]


def main() -> int:
    """Read the files that are named on standard input until it ends; return the exit status."""
    limits = Limits(**json.loads(sys.argv[1]))
    load: Load = importlib.import_module(sys.argv[2]).load
    requests, replies = _take_pipes()
    # Its end of standard input tells it nothing while a library is at work.
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    _confine(limits)
    worker = _Worker(load, replies, limits)
    worker.send(Ready())
    while (request := read_frame(requests)) is not None:
        # A file's name may be any bytes.
        worker.answer(Path(os.fsdecode(request)))
    return 0


def _take_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Return the pipes, out of reach of whatever a library prints or reads."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, replies


def _confine(limits: Limits) -> None:
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, MAX_WRITTEN_BYTES)
    # Elsewhere it is refused or means nothing.
    if sys.platform == "linux":
        _limit(resource.RLIMIT_AS, limits.memory_bytes)


def _limit(kind: int, value: int) -> None:
    """Set a limit for good, but never above one that was set already."""
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


class _Worker:
    def __init__(self, load: Load, replies: IO[bytes], limits: Limits) -> None:
        self._load = load
        self._replies = replies
        self._limits = limits

    def answer(self, path: Path) -> None:
        """Send what a file holds, and how it ended."""
        self.send(self._outcome(path))

    def send(self, reply: Reply) -> None:
        """Send a reply; the next one has the whole time again."""
        payload = encode(reply)
        self._check_size(len(payload))
        write_frame(self._replies, payload)
        self._allow_processor_time()

    def _outcome(self, path: Path) -> Done | Failure:
        try:
            for loaded in self._load(path, self._tell_read, max_bytes=self._limits.file_bytes):
                if isinstance(loaded, Document):
                    # Before it is copied, which may be more than the memory holds.
                    self._check_size(len(loaded.text))
                self.send(loaded)
        except MemoryError:
            return Failure("memory", "")
        except _TooMuchTextError:
            limit = self._limits.text_bytes // MIB
            return Failure("document", f"{path} holds more than {limit} MiB of text; split it or leave it out")
        except DocumentError as error:
            return Failure("unsupported" if isinstance(error, UnsupportedFormatError) else "document", str(error))
        except Exception as error:  # noqa: BLE001  (its owner shows it, and the next file is read)
            return _failure(error)
        return Done()

    def _tell_read(self, num_bytes: int) -> None:
        self.send(Read(num_bytes))

    def _check_size(self, num_bytes: int) -> None:
        if num_bytes > self._limits.text_bytes:
            raise _TooMuchTextError

    def _allow_processor_time(self) -> None:
        """Let the system end this process should its owner, who looks at the clock, be stopped or busy."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        until = math.ceil(usage.ru_utime + usage.ru_stime + self._limits.seconds) + 1
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        if hard == resource.RLIM_INFINITY or until < hard:
            resource.setrlimit(resource.RLIMIT_CPU, (until, hard))


def _failure(error: Exception) -> Failure:
    """Return the system's error, or any other, which is a fault of the loader."""
    if isinstance(error, OSError) and error.errno is not None:
        return Failure("system", error.strerror or "", error.errno)
    traceback.print_exception(error)
    return Failure("fault", f"{type(error).__name__}: {one_line(error)}")


class _TooMuchTextError(Exception):
    """A reply is longer than its receiver takes."""


if __name__ == "__main__":
    sys.exit(main())
