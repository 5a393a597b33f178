"""Indexes files: load -> chunk -> embed -> store. Restarted after any crash it goes on where it stopped."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rag_server.config import ChunkingSettings
from rag_server.errors import CancelledByUserError, DocumentError, UnsupportedFormatError
from rag_server.fingerprints import content_hash_of, file_fingerprint
from rag_server.jobs.passage_text import passage_text
from rag_server.jobs.prefetch import prefetched
from rag_server.observability import CHUNKS_INDEXED
from rag_server.protocols import Embedder, Progress
from rag_server.store.documents import Documents
from rag_server.store.files import Files
from rag_server.types import Chunk, Document, EmbeddedDocument, FileErrorCode, NewFile, StoredFile, Vectors, VectorStore

# Reads a file, telling how many of its bytes are read so far.
Load = Callable[[Path, Callable[[int], None]], Iterator[Document | DocumentError]]
CutText = Callable[..., list[Chunk]]

# Chunks embedded and stored together: enough for full batches, few enough that a crash costs seconds of work.
CHUNKS_PER_COMMIT = 256
# Documents that are read and cut while others are embedded.
DOCUMENTS_AHEAD = 32
RENEW_LEASE_S = 30.0
# Of the rows of one file, in its error.
MAX_FAULTS_TOLD = 20


@dataclass(frozen=True, slots=True)
class Source:
    """A file to index: where its bytes are now, and what it is called in the store."""

    path: Path
    new: NewFile


@dataclass(slots=True)
class IngestReport:
    """What became of each file, and why."""

    indexed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    failed: dict[str, list[str]] = field(default_factory=dict)
    num_documents: int = 0
    num_chunks: int = 0
    num_reused: int = 0


@dataclass(slots=True)
class _OpenFile:
    """A file whose documents are being stored."""

    stored: StoredFile
    path: Path
    fingerprint: str
    chunking: ChunkingSettings
    seen: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    bytes_read: int = 0
    renewed_at: float = field(default_factory=time.monotonic)
    # Why it was given up before its end, if it was.
    given_up: bool = False


@dataclass(frozen=True, slots=True)
class _CutDocument:
    """A document waiting for its vectors; some of its chunks may have them already."""

    file: _OpenFile
    document: Document
    content_hash: str
    chunks: tuple[Chunk, ...]
    texts: tuple[str, ...]
    known: dict[str, Vectors]


class Ingest:
    """Brings a vector store in step with files."""

    def __init__(
        self,
        *,
        files: Files,
        documents: Documents,
        embedder: Embedder,
        load: Load,
        cut_text: CutText,
        chunking: ChunkingSettings,
    ) -> None:
        self._files = files
        self._documents = documents
        self._embedder = embedder
        self._load = load
        self._cut_text = cut_text
        self._chunking = chunking

    def run(self, vector_store: VectorStore, sources: Sequence[Source], progress: Progress) -> IngestReport:
        """Index the files; whatever is stored when this returns, or is killed, is stored for good.

        A file that cannot be read is reported and the others are indexed. An unchanged file is skipped, and so is an
        unchanged document of a changed file. Documents that a file no longer holds are removed once it was read to its end.
        """
        report = IngestReport()
        progress.started(len(sources), sum(source.new.bytes for source in sources))
        read: list[_OpenFile] = []
        self._store_all(vector_store, self._read_all(vector_store, sources, read, report, progress), report, progress)
        self._close(vector_store, read, report)
        return report

    def run_leased(self, vector_store: VectorStore, stored: StoredFile, path: Path, progress: Progress) -> IngestReport:
        """Index one file that this process has leased, whose bytes are at `path`."""
        report = IngestReport()
        progress.started(1, stored.bytes)
        chunking = self._chunking_of(stored.chunking)
        opened = _OpenFile(stored, path, file_fingerprint(path, chunking), chunking)
        self._store_all(vector_store, self._cut_documents(vector_store, opened, report, progress.read_bytes), report, progress)
        self._close(vector_store, [opened], report)
        return report

    def _read_all(
        self,
        vector_store: VectorStore,
        sources: Sequence[Source],
        read: list[_OpenFile],
        report: IngestReport,
        progress: Progress,
    ) -> Iterator[_CutDocument]:
        num_bytes = 0
        for source in sources:
            opened = self._open(vector_store, source, report)
            if opened is not None:
                read.append(opened)
                yield from self._cut_documents(vector_store, opened, report, _from(num_bytes, progress))
            num_bytes += source.new.bytes
            progress.read_bytes(num_bytes)

    def _open(self, vector_store: VectorStore, source: Source, report: IngestReport) -> _OpenFile | None:
        """Return the file to be read, or None when it is unchanged or unreadable."""
        chunking = self._chunking_of(source.new.chunking)
        try:
            fingerprint = file_fingerprint(source.path, chunking)
        except OSError as error:
            report.failed[str(source.path)] = [f"{source.path}: cannot be read: {error.strerror}"]
            return None
        found = self._files.find(vector_store, source.new.source) or self._moved(vector_store, source, fingerprint, report)
        if found is not None and found.fingerprint == fingerprint:
            if (found.attributes, found.principals) != (source.new.attributes, source.new.principals):
                self._files.describe(vector_store, source.new)
            report.unchanged.append(str(source.path))
            return None
        return _OpenFile(self._files.begin(vector_store, source.new), source.path, fingerprint, chunking)

    def _moved(self, vector_store: VectorStore, source: Source, fingerprint: str, report: IngestReport) -> StoredFile | None:
        """Return the file that was indexed from the same bytes under a path where there is nothing any more."""
        for file in self._files.find_content(vector_store, fingerprint):
            if Path(file.source).is_absolute() and not Path(file.source).exists():
                self._files.move(vector_store, file, source.new.source, source.new.filename)
                report.moved.append(f"{file.source} -> {source.path}")
                # A document without a title of its own goes by its file's name, which is embedded with it.
                named_after = self._documents.has_title(file, Path(file.filename).stem)
                return None if named_after and file.filename != source.new.filename else file
        return None

    def _cut_documents(
        self, vector_store: VectorStore, opened: _OpenFile, report: IngestReport, on_read: Callable[[int], None]
    ) -> Iterator[_CutDocument]:
        """Yield the file's documents that are new or changed."""

        def told(num_bytes: int) -> None:
            opened.bytes_read = num_bytes
            on_read(num_bytes)

        try:
            for loaded in self._load(opened.path, told):
                if opened.given_up:
                    return
                self._renew(opened)
                if isinstance(loaded, DocumentError):
                    opened.faults.append(str(loaded))
                    continue
                opened.seen.add(loaded.document_id)
                report.num_documents += 1
                content_hash = content_hash_of(loaded, opened.chunking)
                if not self._documents.unchanged(opened.stored, {loaded.document_id: content_hash}):
                    yield self._cut(vector_store, opened, loaded, content_hash)
        except DocumentError as error:
            # Read to its end or not at all: what an earlier version of the file stored must not be taken for gone.
            code: FileErrorCode = "unsupported_file" if isinstance(error, UnsupportedFormatError) else "invalid_file"
            self._give_up(opened, report, str(error), code)
        except OSError as error:
            self._give_up(opened, report, f"{opened.path}: cannot be read: {error.strerror}", "server_error")
        except CancelledByUserError as error:
            self._give_up(opened, report, str(error))

    def _cut(self, vector_store: VectorStore, opened: _OpenFile, document: Document, content_hash: str) -> _CutDocument:
        max_tokens = min(opened.chunking.max_tokens, self._embedder.max_tokens)
        chunks = self._cut_text(
            document.text,
            self._embedder.token_spans(document.text),
            max_tokens=max_tokens,
            overlap_tokens=min(opened.chunking.overlap_tokens, max_tokens // 2),
            sections=document.sections,
        )
        texts = tuple(passage_text(document.title, document.text[chunk.start : chunk.end], chunk.place) for chunk in chunks)
        before = self._documents.chunks(vector_store, opened.stored, document.document_id)
        known = {passage_text(chunk.title, chunk.text, chunk.place): chunk.vector for chunk in before}
        return _CutDocument(opened, document, content_hash, tuple(chunks), texts, known)

    def _store_all(
        self, vector_store: VectorStore, cut_documents: Iterator[_CutDocument], report: IngestReport, progress: Progress
    ) -> None:
        waiting: list[_CutDocument] = []
        for cut in prefetched(cut_documents, DOCUMENTS_AHEAD):
            waiting.append(cut)
            if sum(len(one.chunks) for one in waiting) >= CHUNKS_PER_COMMIT:
                self._store(vector_store, waiting, report, progress)
                waiting = []
        self._store(vector_store, waiting, report, progress)

    def _store(
        self, vector_store: VectorStore, waiting: Sequence[_CutDocument], report: IngestReport, progress: Progress
    ) -> None:
        """Embed the documents, and store those of each file in one transaction."""
        by_text = self._vectors(waiting, report)
        by_file: dict[int, list[_CutDocument]] = {}
        for cut in waiting:
            by_file.setdefault(cut.file.stored.key, []).append(cut)
        for cuts in by_file.values():
            opened = cuts[0].file
            embedded = [
                EmbeddedDocument(cut.document, cut.content_hash, cut.chunks, self._rows([by_text[text] for text in cut.texts]))
                for cut in cuts
            ]
            try:
                self._documents.put(vector_store, opened.stored, embedded, bytes_read=opened.bytes_read)
            except CancelledByUserError as error:
                self._give_up(opened, report, str(error))
                continue
            num_chunks = sum(len(cut.chunks) for cut in cuts)
            report.num_chunks += num_chunks
            CHUNKS_INDEXED.inc(num_chunks)
            progress.stored_chunks(num_chunks)

    def _vectors(self, waiting: Sequence[_CutDocument], report: IngestReport) -> dict[str, Vectors]:
        """Return the vector of each text; only those that no earlier version of its document had are computed.

        They are computed in order of length, so that a batch holds little padding.
        """
        by_text = {text: cut.known[text] for cut in waiting for text in cut.texts if text in cut.known}
        report.num_reused += sum(text in by_text for cut in waiting for text in cut.texts)
        new = sorted({text for cut in waiting for text in cut.texts} - by_text.keys(), key=lambda text: (len(text), text))
        for first in range(0, len(new), CHUNKS_PER_COMMIT):
            portion = new[first : first + CHUNKS_PER_COMMIT]
            by_text.update(zip(portion, self._embedder.embed_passages(portion), strict=True))
            # A document may be so long that its lease would run out meanwhile.
            for opened in {id(cut.file): cut.file for cut in waiting}.values():
                self._renew(opened)
        return by_text

    def _rows(self, vectors: Sequence[Vectors]) -> Vectors:
        return np.stack(vectors) if vectors else np.empty((0, self._embedder.dimension), dtype=np.float32)

    def _renew(self, opened: _OpenFile) -> None:
        """Keep the lease of a file of which nothing has been stored for a while."""
        if not opened.given_up and time.monotonic() - opened.renewed_at > RENEW_LEASE_S:
            self._files.renew(opened.stored, opened.bytes_read)
            opened.renewed_at = time.monotonic()

    def _give_up(self, opened: _OpenFile, report: IngestReport, reason: str, code: FileErrorCode = "invalid_file") -> None:
        if opened.given_up:
            return
        opened.given_up = True
        opened.faults.append(reason)
        self._files.fail(opened.stored, _told(opened), code)
        report.failed[str(opened.path)] = opened.faults

    def _close(self, vector_store: VectorStore, read: Sequence[_OpenFile], report: IngestReport) -> None:
        """Mark the files as complete, but for those that were given up."""
        for opened in read:
            if opened.given_up:
                continue
            # Without its fingerprint the file is read again next time, so that its faulty rows are named again.
            fingerprint = None if opened.faults else opened.fingerprint
            error = _told(opened) or None
            try:
                self._documents.finish(vector_store, opened.stored, fingerprint=fingerprint, keep=opened.seen, error=error)
            except CancelledByUserError as cancelled:
                self._give_up(opened, report, str(cancelled))
                continue
            if opened.faults:
                report.failed[str(opened.path)] = opened.faults
            report.indexed.append(str(opened.path))

    def _chunking_of(self, own: Mapping[str, int] | None) -> ChunkingSettings:
        return self._chunking.model_copy(update=dict(own or {}))


def _told(opened: _OpenFile) -> str:
    """Return what is wrong with the file as clients read it, who have no business knowing where it lies."""
    told = opened.faults[:MAX_FAULTS_TOLD]
    told += [f"and {len(opened.faults) - len(told)} more"] if len(opened.faults) > len(told) else []
    return "; ".join(told).replace(str(opened.path), opened.stored.filename)


def _from(num_bytes_before: int, progress: Progress) -> Callable[[int], None]:
    """Return what tells `progress` of the bytes read of one file when so many were read before it."""
    return lambda num_bytes: progress.read_bytes(num_bytes_before + num_bytes)
