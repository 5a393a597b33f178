"""The first stage of indexing: reads the files that have changed, and cuts their documents."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path

from rag_server.config import ChunkingSettings
from rag_server.errors import DocumentError, UnsupportedFormatError
from rag_server.fingerprints import content_hash_of, file_fingerprint
from rag_server.jobs.changed_files import ChangedFiles
from rag_server.jobs.cutting import CutText, cut_document
from rag_server.jobs.in_flight import CutDocument, Ended, IngestReport, OpenFile, Source
from rag_server.jobs.leases import Leases
from rag_server.jobs.passage_text import passage_text
from rag_server.protocols import Embedder, Progress
from rag_server.store.documents import Documents
from rag_server.store.files import Files
from rag_server.types import Document, FileErrorCode, StoredFile, VectorStore

# Reads a file, telling how many of its bytes are read so far.
Load = Callable[[Path, Callable[[int], None]], Iterator[Document | DocumentError]]
Parts = Generator[CutDocument | Ended, None, None]


class Reader:
    """Reads files, one after the other, into one vector store. The embedding model only counts tokens here."""

    def __init__(
        self,
        vector_store: VectorStore,
        report: IngestReport,
        leases: Leases,
        *,
        files: Files,
        documents: Documents,
        embedder: Embedder,
        load: Load,
        cut_text: CutText,
        chunking: ChunkingSettings,
    ) -> None:
        self._vector_store = vector_store
        self._report = report
        self._leases = leases
        self._files = files
        self._documents = documents
        self._embedder = embedder
        self._load = load
        self._cut_text = cut_text
        self._changed = ChangedFiles(vector_store, report, files=files, documents=documents, chunking=chunking)

    def changed(self, sources: Sequence[Source], progress: Progress) -> Parts:
        """Yield what is new in those of the files that have changed since they were stored, which are leased for it."""
        num_bytes = 0
        for source in sources:
            fingerprint = self._changed.fingerprint(source)
            if fingerprint is not None:
                stored = self._files.begin(self._vector_store, source.new)
                opened = OpenFile(stored, source.path, fingerprint, self._changed.chunking(source.new.chunking))
                yield from self._read(opened, _from(num_bytes, progress))
            num_bytes += source.new.bytes
            progress.read_bytes(num_bytes)

    def leased(self, files: Iterable[tuple[StoredFile, Path]], progress: Progress) -> Parts:
        """Yield what is new in files that this process has leased, whose bytes are at the paths."""
        num_bytes = 0
        for stored, path in files:
            chunking = self._changed.chunking(stored.chunking)
            opened = OpenFile(stored, path, file_fingerprint(path, chunking), chunking)
            yield from self._read(opened, _from(num_bytes, progress))
            num_bytes += stored.bytes

    def _read(self, opened: OpenFile, on_read: Callable[[int], None]) -> Parts:
        """Yield the file's documents that are new or changed, and its end."""

        def told(num_bytes: int) -> None:
            opened.bytes_read = num_bytes
            on_read(num_bytes)

        self._leases.keep(opened)
        is_new = not self._documents.has_any(opened.stored)
        failure: str | None = None
        code: FileErrorCode = "invalid_file"
        try:
            for loaded in self._load(opened.path, told):
                if opened.is_lost:
                    break
                if isinstance(loaded, DocumentError):
                    opened.faults.append(str(loaded))
                    continue
                opened.seen.add(loaded.document_id)
                self._report.num_documents += 1
                content_hash = content_hash_of(loaded, opened.chunking)
                if is_new or not self._documents.unchanged(opened.stored, {loaded.document_id: content_hash}):
                    yield self._cut(opened, loaded, content_hash, is_new=is_new)
        except (DocumentError, OSError) as error:
            # Read to its end or not at all: what an earlier version of the file stored must not be taken for gone.
            failure, code = failure_of(opened.path, error)
        yield Ended(opened, failure, code)

    def _cut(self, opened: OpenFile, document: Document, content_hash: str, *, is_new: bool) -> CutDocument:
        chunks, texts = cut_document(document, opened.chunking, embedder=self._embedder, cut_text=self._cut_text)
        before = [] if is_new else self._documents.chunks(self._vector_store, opened.stored, document.document_id)
        known = {passage_text(chunk.title, chunk.text, chunk.place): chunk.vector for chunk in before}
        return CutDocument(opened, document, content_hash, chunks, texts, known)


def failure_of(path: Path, error: DocumentError | OSError) -> tuple[str, FileErrorCode]:
    """Return why the whole file cannot be read, and under which code."""
    if isinstance(error, OSError):
        return f"{path}: cannot be read: {error.strerror}", "server_error"
    return str(error), "unsupported_file" if isinstance(error, UnsupportedFormatError) else "invalid_file"


def _from(num_bytes_before: int, progress: Progress) -> Callable[[int], None]:
    """Return what tells `progress` of the bytes read of one file when so many were read before it."""
    return lambda num_bytes: progress.read_bytes(num_bytes_before + num_bytes)
