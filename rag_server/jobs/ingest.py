"""Indexes files: load -> chunk -> embed -> store. Restarted after any crash it goes on where it stopped."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rag_server.config import ChunkingSettings
from rag_server.errors import DocumentError
from rag_server.observability import CHUNKS_INDEXED
from rag_server.protocols import Embedder, Progress
from rag_server.store.files import Files
from rag_server.types import Chunk, Document, EmbeddedDocument, StoredFile, Vectors, VectorStore

# Reads a file, telling how many of its bytes are read so far.
Load = Callable[[Path, Callable[[int], None]], Iterator[Document | DocumentError]]
CutText = Callable[..., list[Chunk]]

# Chunks embedded and stored together: enough for full batches, few enough that a crash costs seconds of work.
CHUNKS_PER_COMMIT = 256
READ_BYTES = 1 << 20
# Of a title, this much goes before each of the document's chunks.
MAX_TITLE_CHARACTERS = 200


@dataclass(slots=True)
class IngestReport:
    """What became of each file, and why."""

    indexed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    failed: dict[str, list[str]] = field(default_factory=dict)
    num_documents: int = 0
    num_chunks: int = 0


@dataclass(slots=True)
class _OpenFile:
    """A file whose documents are being stored."""

    stored: StoredFile
    path: Path
    fingerprint: str
    seen: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _CutDocument:
    """A document waiting for its vectors."""

    file: _OpenFile
    document: Document
    content_hash: str
    chunks: tuple[Chunk, ...]


class Ingest:
    """Brings a vector store in step with files."""

    def __init__(self, *, files: Files, embedder: Embedder, load: Load, cut_text: CutText, chunking: ChunkingSettings) -> None:
        self._files = files
        self._embedder = embedder
        self._load = load
        self._cut_text = cut_text
        self._chunking = chunking

    def run(self, vector_store: VectorStore, paths: Sequence[Path], progress: Progress) -> IngestReport:
        """Index the files; whatever is stored when this returns, or is killed, is stored for good.

        A file that cannot be read is reported and the others are indexed. An unchanged file is skipped, and so is an
        unchanged document of a changed file. Documents that a file no longer holds are removed once it was read to its end.
        """
        report = IngestReport()
        sizes = {path: path.stat().st_size if path.is_file() else 0 for path in paths}
        progress.started(len(paths), sum(sizes.values()))
        waiting: list[_CutDocument] = []
        read: list[_OpenFile] = []
        num_bytes = 0
        for path in paths:
            opened = self._open(vector_store, path, report)
            if opened is not None:
                read.append(opened)
                for cut in self._cut_documents(opened, report, _from(num_bytes, progress)):
                    waiting.append(cut)
                    if sum(len(one.chunks) for one in waiting) >= CHUNKS_PER_COMMIT:
                        progress.stored_chunks(self._store(vector_store, waiting, report))
                        waiting = []
            num_bytes += sizes[path]
            progress.read_bytes(num_bytes)
        progress.stored_chunks(self._store(vector_store, waiting, report))
        self._close(vector_store, read, report)
        return report

    def _open(self, vector_store: VectorStore, path: Path, report: IngestReport) -> _OpenFile | None:
        """Return the file to be read, or None when it is unchanged or unreadable."""
        try:
            fingerprint = self._fingerprint(path)
        except OSError as error:
            report.failed[str(path)] = [f"{path}: cannot be read: {error.strerror}"]
            return None
        source = str(path.absolute())
        found = self._files.find(vector_store, source)
        if found is not None and found.fingerprint == fingerprint:
            report.unchanged.append(str(path))
            return None
        stored = self._files.begin(vector_store, source, filename=path.name, num_bytes=path.stat().st_size)
        return _OpenFile(stored, path, fingerprint)

    def _cut_documents(self, opened: _OpenFile, report: IngestReport, on_read: Callable[[int], None]) -> Iterator[_CutDocument]:
        """Yield the file's documents that are new or changed."""
        try:
            for loaded in self._load(opened.path, on_read):
                if isinstance(loaded, DocumentError):
                    opened.faults.append(str(loaded))
                    continue
                opened.seen.add(loaded.document_id)
                report.num_documents += 1
                content_hash = self._content_hash(loaded)
                if not self._files.unchanged(opened.stored, {loaded.document_id: content_hash}):
                    yield _CutDocument(opened, loaded, content_hash, tuple(self._cut(loaded)))
        except DocumentError as error:
            opened.faults.append(str(error))
            # Read to its end or not at all: what an earlier version of the file stored must not be taken for gone.
            self._files.fail(opened.stored)
            report.failed[str(opened.path)] = opened.faults
        except OSError as error:
            self._files.fail(opened.stored)
            report.failed[str(opened.path)] = [f"{opened.path}: cannot be read: {error.strerror}"]

    def _store(self, vector_store: VectorStore, waiting: Sequence[_CutDocument], report: IngestReport) -> int:
        """Embed and store the documents; return the number of chunks."""
        texts = [_passage_text(cut.document, chunk) for cut in waiting for chunk in cut.chunks]
        if not texts:
            return 0
        vectors = self._embed(texts)
        first = 0
        by_file: dict[str, tuple[StoredFile, list[EmbeddedDocument]]] = {}
        for cut in waiting:
            rows = vectors[first : first + len(cut.chunks)]
            first += len(cut.chunks)
            of_file = by_file.setdefault(cut.file.stored.id, (cut.file.stored, []))
            of_file[1].append(EmbeddedDocument(cut.document, cut.content_hash, cut.chunks, rows))
        for file, documents in by_file.values():
            self._files.put_documents(vector_store, file, documents)
        report.num_chunks += len(texts)
        CHUNKS_INDEXED.inc(len(texts))
        return len(texts)

    def _close(self, vector_store: VectorStore, read: Sequence[_OpenFile], report: IngestReport) -> None:
        """Mark the files as complete, but for those that could not be read to their end."""
        for opened in read:
            if str(opened.path) in report.failed:
                continue
            # Without its fingerprint the file is read again next time, so that its faulty rows are named again.
            fingerprint = None if opened.faults else opened.fingerprint
            self._files.finish(vector_store, opened.stored, fingerprint=fingerprint, keep=opened.seen)
            if opened.faults:
                report.failed[str(opened.path)] = opened.faults
            report.indexed.append(str(opened.path))

    def _embed(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of the texts, computed in order of length so that a batch holds little padding."""
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        vectors = np.empty((len(texts), self._embedder.dimension), dtype=np.float32)
        vectors[order] = self._embedder.embed_passages([texts[index] for index in order])
        return vectors

    def _cut(self, document: Document) -> list[Chunk]:
        max_tokens = min(self._chunking.max_tokens, self._embedder.max_tokens)
        return self._cut_text(
            document.text,
            self._embedder.token_spans(document.text),
            max_tokens=max_tokens,
            overlap_tokens=min(self._chunking.overlap_tokens, max_tokens // 2),
        )

    def _fingerprint(self, path: Path) -> str:
        """Return a hash of the file's bytes and of everything else that decides what is stored of it."""
        digest = hashlib.sha256(self._chunking.model_dump_json().encode())
        with path.open("rb") as file:
            while part := file.read(READ_BYTES):
                digest.update(part)
        return digest.hexdigest()

    def _content_hash(self, document: Document) -> str:
        content = [document.title, document.text, dict(document.attributes), self._chunking.model_dump()]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _passage_text(document: Document, chunk: Chunk) -> str:
    """Return what is embedded for a chunk: its text under the document's title."""
    text = document.text[chunk.start : chunk.end]
    title = document.title[:MAX_TITLE_CHARACTERS]
    return text if not title or text.lstrip("# \n").startswith(title) else f"{title}\n{text}"


def _from(num_bytes_before: int, progress: Progress) -> Callable[[int], None]:
    """Return what tells `progress` of the bytes read of one file when so many were read before it."""
    return lambda num_bytes: progress.read_bytes(num_bytes_before + num_bytes)
