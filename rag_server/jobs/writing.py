"""The last stage of indexing: stores what is ready, however many files it is of, in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rag_server.jobs.in_flight import EmbeddedPart, Ended, IngestReport, OpenFile
from rag_server.observability import CHUNKS_INDEXED
from rag_server.protocols import Progress
from rag_server.store.documents import Documents, FileEnd, FilePart
from rag_server.store.files import Files
from rag_server.types import EmbeddedDocument, FileErrorCode, VectorStore

# Of the rows of one file, in its error.
MAX_FAULTS_TOLD = 20


@dataclass(slots=True)
class _Ready:
    """What is ready of one file."""

    file: OpenFile
    documents: list[EmbeddedDocument] = field(default_factory=list)
    ended: Ended | None = None


class Writer:
    """Stores documents and the ends of their files; reports what became of them."""

    def __init__(
        self, vector_store: VectorStore, report: IngestReport, progress: Progress, *, files: Files, documents: Documents
    ) -> None:
        self._vector_store = vector_store
        self._report = report
        self._progress = progress
        self._files = files
        self._documents = documents

    def write(self, parts: Sequence[EmbeddedPart | Ended]) -> None:
        """Store the documents, and mark the files as complete whose end is among them; what is lost is left out."""
        ready: dict[int, _Ready] = {}
        for part in parts:
            of_file = ready.setdefault(part.file.stored.key, _Ready(part.file))
            if of_file.file is not part.file:
                # The same file was begun once more meanwhile.
                self._store(list(ready.values()))
                ready = {part.file.stored.key: (of_file := _Ready(part.file))}
            if isinstance(part, Ended):
                of_file.ended = part
            else:
                of_file.documents.append(part.embedded)
        self._store(list(ready.values()))

    def _store(self, ready: Sequence[_Ready]) -> None:
        waiting = [of_file for of_file in ready if not of_file.file.is_lost]
        refused = self._documents.store(self._vector_store, [_part(of_file) for of_file in waiting]) if waiting else {}
        for of_file in waiting:
            error = refused.get(of_file.file.stored.key)
            if error is not None:
                self._lose(of_file.file, str(error))
            else:
                self._count(of_file)
        for of_file in ready:
            if of_file.ended is not None:
                self._report_end(of_file.file, of_file.ended)

    def _lose(self, file: OpenFile, reason: str, code: FileErrorCode = "invalid_file") -> None:
        file.is_lost = True
        file.faults.append(reason)
        self._files.fail(file.stored, _told(file), code)

    def _count(self, stored: _Ready) -> None:
        num_chunks = sum(len(document.chunks) for document in stored.documents)
        self._report.num_chunks += num_chunks
        CHUNKS_INDEXED.inc(num_chunks)
        self._progress.stored_chunks(num_chunks)

    def _report_end(self, file: OpenFile, ended: Ended) -> None:
        if ended.failure is not None and not file.is_lost:
            self._lose(file, ended.failure, ended.code)
        file.is_done = True
        if file.faults:
            self._report.failed[str(file.path)] = file.faults
        if not file.is_lost:
            self._report.indexed.append(str(file.path))


def _part(ready: _Ready) -> FilePart:
    file = ready.file
    is_whole = ready.ended is not None and ready.ended.failure is None
    # Without its fingerprint the file is read again next time, so that its faulty rows are named again.
    end = FileEnd(None if file.faults else file.fingerprint, file.seen, _told(file) or None) if is_whole else None
    return FilePart(file.stored, ready.documents, file.bytes_read, end)


def _told(file: OpenFile) -> str:
    """Return what is wrong with the file as clients read it, who have no business knowing where it lies."""
    told = file.faults[:MAX_FAULTS_TOLD]
    told += [f"and {len(file.faults) - len(told)} more"] if len(file.faults) > len(told) else []
    return "; ".join(told).replace(str(file.path), file.stored.filename)
