"""Finds out which files have changed since they were stored."""

from collections.abc import Mapping
from pathlib import Path

from rag_server.config import ChunkingSettings
from rag_server.fingerprints import file_fingerprint
from rag_server.jobs.in_flight import IngestReport, Source
from rag_server.store.documents import Documents
from rag_server.store.files import Files
from rag_server.types import StoredFile, VectorStore


class ChangedFiles:
    """Compares files with one vector store, in which it notes what has become of them without being read."""

    def __init__(
        self,
        vector_store: VectorStore,
        report: IngestReport,
        *,
        files: Files,
        documents: Documents,
        chunking: ChunkingSettings,
    ) -> None:
        self._vector_store = vector_store
        self._report = report
        self._files = files
        self._documents = documents
        self._chunking = chunking

    def fingerprint(self, source: Source) -> str | None:
        """Return the fingerprint of a file that is to be read, None of one that is unchanged or unreadable."""
        try:
            fingerprint = file_fingerprint(source.path, self.chunking(source.new.chunking))
        except OSError as error:
            self._report.failed[str(source.path)] = [f"{source.path}: cannot be read: {error.strerror}"]
            return None
        found = self._files.find(self._vector_store, source.new.source) or self._moved(source, fingerprint)
        if found is None or found.fingerprint != fingerprint:
            return fingerprint
        if (found.attributes, found.principals) != (source.new.attributes, source.new.principals):
            self._files.describe(self._vector_store, source.new)
        self._report.unchanged.append(str(source.path))
        return None

    def chunking(self, own: Mapping[str, int] | None) -> ChunkingSettings:
        """Return how a file is cut of which that is said."""
        return self._chunking.model_copy(update=dict(own or {}))

    def _moved(self, source: Source, fingerprint: str) -> StoredFile | None:
        """Return the file that was indexed from the same bytes under a path where there is nothing any more."""
        for file in self._files.find_content(self._vector_store, fingerprint):
            if Path(file.source).is_absolute() and not Path(file.source).exists():
                self._files.move(self._vector_store, file, source.new.source, source.new.filename)
                self._report.moved.append(f"{file.source} -> {source.path}")
                # A document without a title of its own goes by its file's name, which is embedded with it.
                named_after = self._documents.has_title(file, Path(file.filename).stem)
                return None if named_after and file.filename != source.new.filename else file
        return None
