"""Reads each file in a child process, so that no file can hang, crash or fill the memory of this one.

A child is kept for the next file; one that met a limit or crashed is replaced.
"""

import importlib.util
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from indexers.loaders.parser_child import ParserChild
from indexers.loaders.parser_protocol import MIB, Done, Failure, Limits, ProtocolError, Read, Ready, Reply
from rag_server.errors import DocumentError, UnsupportedFormatError
from rag_server.types import Document

log = structlog.get_logger()

# Reading pictures takes seconds a page, and models in memory.
OCR_LIMITS = Limits(seconds=600.0, memory_bytes=6 * 1024 * MIB)
DISPATCH = "indexers.loaders.dispatch"
# Against what libraries leak.
FILES_PER_CHILD = 200


class ParserError(DocumentError):
    """A file took more than it may, or crashed its parser."""


class ParserPool:
    """Reads files in child processes; for use by one thread at a time. The children end with it, and with this process."""

    def __init__(
        self, *, limits: Limits | None = None, files_per_child: int = FILES_PER_CHILD, dispatch: str = DISPATCH
    ) -> None:
        """Start nothing yet.

        Args:
            limits: What a file may take; None means the default, which is more where OCR is installed.
            files_per_child: The number of files after which a child is replaced.
            dispatch: The module whose `load` reads a file.
        """
        self._limits = limits or (OCR_LIMITS if importlib.util.find_spec("rapidocr") else Limits())
        self._files_per_child = files_per_child
        self._dispatch = dispatch
        self._idle: list[ParserChild] = []
        # A child ends with the thread that started it, and whoever asks for a file may be a thread for that file alone.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="parsers")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the children; one that is at work is ended by its caller."""
        while self._idle:
            self._idle.pop().end()
        self._starter.shutdown()

    def parse(self, path: Path, on_read: Callable[[int], None]) -> Iterator[Document | DocumentError]:
        """Yield the documents of a file, and the error of each row that is none; as `dispatch.load` does.

        Raises:
            DocumentError: The file as a whole cannot be read; ParserError if it met a limit or crashed its parser.
            OSError: The file cannot be opened.
            RagServerError: No child process can be started.
        """
        child = self._take()
        try:
            yield from self._replies(child, path, on_read)
        finally:
            printed = child.last_line()
            if printed:
                log.debug("a parser printed", path=str(path), line=printed)
            if child.is_ready and child.num_files < self._files_per_child:
                self._idle.append(child)
            else:
                child.end()

    def _take(self) -> ParserChild:
        while self._idle:
            child = self._idle.pop()
            if child.is_alive():
                return child
            child.end()
        return self._starter.submit(ParserChild, self._limits, self._dispatch).result()

    def _replies(self, child: ParserChild, path: Path, on_read: Callable[[int], None]) -> Iterator[Document | DocumentError]:
        child.send(path)
        while True:
            match self._next(child, path):
                case Document() | DocumentError() as loaded:
                    yield loaded
                case Read(num_bytes):
                    on_read(num_bytes)
                case Failure() as failure:
                    child.is_ready = failure.kind != "memory"
                    raise self._error(path, failure)
                case Done():
                    child.is_ready = True
                    return
                case Ready():
                    raise _crashed(path, "it started twice")

    def _next(self, child: ParserChild, path: Path) -> Reply:
        try:
            return child.receive(self._limits.seconds)
        except TimeoutError as error:
            raise DocumentError(
                f"{path} took more than {self._limits.seconds:g} s to read; split it or leave it out"
            ) from error
        except EOFError as error:
            raise self._ended(path, child.exit_status()) from error
        except ProtocolError as error:
            raise _crashed(path, "what it answered makes no sense") from error

    def _error(self, path: Path, failure: Failure) -> DocumentError | OSError:
        match failure.kind:
            case "unsupported":
                return UnsupportedFormatError(failure.message)
            case "system":
                return OSError(failure.number, failure.message, str(path))
            case "memory":
                limit = self._limits.memory_bytes // MIB
                return ParserError(f"{path} needs more than {limit} MiB of memory to be read; split it or leave it out")
            case "fault":
                return _crashed(path, failure.message)
            case "document":
                return DocumentError(failure.message)

    def _ended(self, path: Path, status: int) -> ParserError:
        if status == -signal.SIGXCPU:
            limit = self._limits.seconds
            return ParserError(f"{path} took more than {limit:g} s of processor time to read; split it or leave it out")
        if status == -signal.SIGKILL:
            return ParserError(
                f"{path}: its parser was killed, as the system does when memory runs out; "
                "free some and index the file again, or leave it out"
            )
        return _crashed(path, signal.Signals(-status).name if status < 0 else f"exit status {status}")


def _crashed(path: Path, reason: str) -> ParserError:
    return ParserError(f"{path} made its parser fail ({reason}); it may be damaged: save it again, or leave it out")
