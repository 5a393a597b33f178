"""Reads files and cuts their documents, in a process of a cluster that knows no store."""

from collections.abc import Iterator

from rag_server.errors import DocumentError
from rag_server.fingerprints import content_hash_of
from rag_server.jobs.cutting import CutText, cut_document
from rag_server.jobs.indexing_on_ray.parts import End, Fault, FileToRead, Part, Unchanged, UnembeddedDocument
from rag_server.jobs.reading import Load, failure_of
from rag_server.protocols import Embedder
from rag_server.types import Document, FileErrorCode


class RemoteReader:
    """Reads one file after the other. The embedding model only counts tokens here."""

    def __init__(self, *, load: Load, cut_text: CutText, embedder: Embedder) -> None:
        self._load = load
        self._cut_text = cut_text
        self._embedder = embedder

    def parts(self, file: FileToRead) -> Iterator[Part]:
        """Yield what is read of the file; whatever is wrong with the whole of it is told at its end."""
        num_parts = 0
        failure: str | None = None
        code: FileErrorCode = "invalid_file"
        try:
            for loaded in self._load(file.path, lambda _: None):
                num_parts += 1
                yield Fault(num_parts, str(loaded)) if isinstance(loaded, DocumentError) else self._cut(file, loaded)
        except (DocumentError, OSError) as error:
            failure, code = failure_of(file.path, error)
        yield End(num_parts, failure, code)

    def _cut(self, file: FileToRead, document: Document) -> UnembeddedDocument | Unchanged:
        content_hash = content_hash_of(document, file.chunking)
        if file.stored.get(document.document_id) == content_hash:
            return Unchanged(document.document_id)
        chunks, texts = cut_document(document, file.chunking, embedder=self._embedder, cut_text=self._cut_text)
        return UnembeddedDocument(document, content_hash, chunks, texts)
