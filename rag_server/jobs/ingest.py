"""Indexes files: read and cut -> embed -> store, side by side. Restarted after any crash it goes on where it stopped."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path

from rag_server.config import ChunkingSettings
from rag_server.jobs.cutting import CutText
from rag_server.jobs.embedding import rows_of, vectors_by_text
from rag_server.jobs.in_flight import CutDocument, EmbeddedPart, Ended, IngestReport, Source
from rag_server.jobs.leases import Leases
from rag_server.jobs.reading import Load, Parts, Reader
from rag_server.jobs.stages import ahead, behind
from rag_server.jobs.writing import Writer
from rag_server.protocols import Embedder, Progress
from rag_server.store.documents import Documents
from rag_server.store.files import Files
from rag_server.types import EmbeddedDocument, StoredFile, Vectors, VectorStore

__all__ = ["Ingest", "IngestReport", "Source"]

# What is embedded and stored together, across files: enough for full batches of like lengths, few enough that a crash costs
# seconds of work. So many wait before each stage, too; one document alone may have more.
CHUNKS_PER_COMMIT = 256


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
        progress.started(len(sources), sum(source.new.bytes for source in sources))
        return self._index(vector_store, progress, lambda reader: reader.changed(sources, progress))

    def run_leased(
        self, vector_store: VectorStore, files: Iterable[tuple[StoredFile, Path]], progress: Progress
    ) -> IngestReport:
        """Index files that this process has leased, whose bytes are at the paths until the next one is asked for."""
        return self._index(vector_store, progress, lambda reader: reader.leased(files, progress))

    def _index(
        self,
        vector_store: VectorStore,
        progress: Progress,
        read: Callable[[Reader], Parts],
    ) -> IngestReport:
        report = IngestReport()
        with Leases(self._files) as leases:
            reader = Reader(
                vector_store,
                report,
                leases,
                files=self._files,
                documents=self._documents,
                embedder=self._embedder,
                load=self._load,
                cut_text=self._cut_text,
                chunking=self._chunking,
            )
            writer = Writer(vector_store, report, progress, files=self._files, documents=self._documents)
            with (
                behind(lambda portions: writer.write(list(chain(*portions))), limit=CHUNKS_PER_COMMIT, size_of=_total) as store,
                closing(ahead(read(reader), limit=CHUNKS_PER_COMMIT, size_of=_size)) as portions,
            ):
                for ready in portions:
                    store(self._embedded(ready, report))
        return report

    def _embedded(self, ready: Sequence[CutDocument | Ended], report: IngestReport) -> list[EmbeddedPart | Ended]:
        """Give every document its vectors; what comes after a document still does."""
        by_text = self._vectors([part for part in ready if isinstance(part, CutDocument)], report)
        return [part if isinstance(part, Ended) else self._with_vectors(part, by_text) for part in ready]

    def _vectors(self, documents: Sequence[CutDocument], report: IngestReport) -> dict[str, Vectors]:
        """Return the vector of each text; only those that no earlier version of its document had are computed."""
        by_text = {text: cut.known[text] for cut in documents for text in cut.texts if text in cut.known}
        report.num_reused += sum(text in by_text for cut in documents for text in cut.texts)
        new = {text for cut in documents for text in cut.texts} - by_text.keys()
        return by_text | vectors_by_text(self._embedder, new)

    def _with_vectors(self, cut: CutDocument, by_text: Mapping[str, Vectors]) -> EmbeddedPart:
        vectors = rows_of(cut.texts, by_text, self._embedder.dimension)
        return EmbeddedPart(cut.file, EmbeddedDocument(cut.document, cut.content_hash, cut.chunks, vectors))


def _size(part: CutDocument | EmbeddedPart | Ended) -> int:
    """Return how many chunks a part counts for; even what has none takes its place."""
    if isinstance(part, Ended):
        return 1
    return max(1, len(part.chunks if isinstance(part, CutDocument) else part.embedded.chunks))


def _total(portion: Sequence[EmbeddedPart | Ended]) -> int:
    return sum(map(_size, portion))
