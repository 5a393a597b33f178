"""Stores what the workers of a cluster make of files. This process alone decides what is read, and alone writes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from rag_server.config import ChunkingSettings
from rag_server.errors import ClusterUnavailableError
from rag_server.factory import Store
from rag_server.jobs.changed_files import ChangedFiles
from rag_server.jobs.in_flight import EmbeddedPart, Ended, IngestReport, OpenFile, Source
from rag_server.jobs.indexing_on_ray.parts import End, Fault, FileToRead, Parts, Unchanged
from rag_server.jobs.writing import Writer
from rag_server.protocols import Progress
from rag_server.types import EmbeddedDocument, VectorStore

# Reads, cuts and embeds: yields each part of each of the files once, in any order, the documents with their vectors.
Work = Callable[[Sequence[FileToRead]], Iterator[Parts]]
MAX_PATHS_TOLD = 3


@dataclass(slots=True)
class _Arriving:
    """A file whose parts arrive; it is opened when the first one is there."""

    source: Source
    fingerprint: str
    opened: OpenFile | None = None
    faults: list[Fault] = field(default_factory=list)
    num_parts: int = 0
    end: End | None = None


class ClusterIngest:
    """Brings a vector store in step with files that are read elsewhere. For one run."""

    def __init__(self, store: Store, vector_store: VectorStore, chunking: ChunkingSettings, progress: Progress) -> None:
        files, documents = store.files, store.documents
        self._store = store
        self._vector_store = vector_store
        self._progress = progress
        self._report = IngestReport()
        self._changed = ChangedFiles(vector_store, self._report, files=files, documents=documents, chunking=chunking)
        self._writer = Writer(vector_store, self._report, progress, files=files, documents=documents)
        self._num_bytes = 0
        self._arriving: dict[int, _Arriving] = {}

    def run(self, sources: Sequence[Source], work: Work) -> IngestReport:
        """Index the files; whatever is stored when this returns, or is killed, is stored for good.

        Skipped are unchanged files, and documents that are stored as they are, of a file that has changed as of one that was
        not complete when an earlier run was killed. A file is complete as soon as all that was read of it is stored; documents
        that it no longer holds are removed then, unless it could not be read to its end.

        Raises:
            ClusterUnavailableError: Something that was read did not arrive.
        """
        self._progress.started(len(sources), sum(source.new.bytes for source in sources))
        to_read = [file for number, source in enumerate(sources) if (file := self._to_read(number, source)) is not None]
        for parts in work(to_read):
            self._writer.write(list(self._arrived(parts)))
        if self._arriving:
            paths = ", ".join(str(file.source.path) for file in list(self._arriving.values())[:MAX_PATHS_TOLD])
            raise ClusterUnavailableError(f"{len(self._arriving)} files did not come back whole ({paths}); run it again")
        return self._report

    def _to_read(self, number: int, source: Source) -> FileToRead | None:
        """Return what a worker needs to know of a file that has changed, None of one that it need not read."""
        fingerprint = self._changed.fingerprint(source)
        if fingerprint is None:
            self._passed(source)
            return None
        self._arriving[number] = _Arriving(source, fingerprint)
        found = self._store.files.find(self._vector_store, source.new.source)
        stored = {} if found is None else self._store.documents.content_hashes(found)
        return FileToRead(number, source.path, self._changed.chunking(source.new.chunking), stored)

    def _arrived(self, parts: Parts) -> Iterator[EmbeddedPart | Ended]:
        """Yield what there is to store of the parts, and the end of each file that is whole by them."""
        for number, part in parts:
            file = self._arriving[number]
            opened = file.opened = file.opened or self._opened(file)
            file.num_parts += 1
            match part:
                case End():
                    file.end = part
                case Fault():
                    file.faults.append(part)
                case Unchanged(document_id):
                    opened.seen.add(document_id)
                case EmbeddedDocument():
                    opened.seen.add(part.document.document_id)
                    yield EmbeddedPart(opened, part)
            if file.end is not None and file.num_parts == file.end.num_parts + 1:
                yield self._ended(self._arriving.pop(number), opened, file.end)

    def _opened(self, file: _Arriving) -> OpenFile:
        new = file.source.new
        stored = self._store.files.begin(self._vector_store, new)
        return OpenFile(stored, file.source.path, file.fingerprint, self._changed.chunking(new.chunking))

    def _ended(self, file: _Arriving, opened: OpenFile, end: End) -> Ended:
        self._report.num_documents += len(opened.seen)
        self._passed(file.source)
        opened.faults[:0] = [fault.reason for fault in sorted(file.faults, key=lambda fault: fault.place)]
        return Ended(opened, end.failure, end.code)

    def _passed(self, source: Source) -> None:
        self._num_bytes += source.new.bytes
        self._progress.read_bytes(self._num_bytes)
