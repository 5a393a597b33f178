"""Gives documents the vectors of their chunks, in a process of the cluster."""

from collections.abc import Mapping

from rag_server.jobs.embedding import rows_of, vectors_by_text
from rag_server.jobs.indexing_on_ray.parts import Part, Parts, UnembeddedDocument
from rag_server.protocols import Embedder
from rag_server.types import EmbeddedDocument, Vectors


def with_vectors(embedder: Embedder, parts: Parts) -> Parts:
    """Return the parts, each cut document with its vectors; what is no document stays as it is."""
    texts = {text for _, part in parts if isinstance(part, UnembeddedDocument) for text in part.texts}
    by_text = vectors_by_text(embedder, texts)
    return [(number, _embedded(part, by_text, embedder.dimension)) for number, part in parts]


def _embedded(part: Part, by_text: Mapping[str, Vectors], dimension: int) -> Part:
    if not isinstance(part, UnembeddedDocument):
        return part
    vectors = rows_of(part.texts, by_text, dimension)
    return EmbeddedDocument(part.document, part.content_hash, part.chunks, vectors)
