"""Gives documents the vectors of their chunks, in a process of the cluster."""

from collections.abc import Mapping

import numpy as np

from rag_server.jobs.indexing_on_ray.parts import Part, Parts, UnembeddedDocument
from rag_server.protocols import Embedder
from rag_server.types import EmbeddedDocument, Vectors


def with_vectors(embedder: Embedder, parts: Parts) -> Parts:
    """Return the parts, each cut document with its vectors; what is no document stays as it is.

    Texts are embedded in order of length, so that a batch holds little padding, and what is there twice only once.
    """
    texts = {text for _, part in parts if isinstance(part, UnembeddedDocument) for text in part.texts}
    ordered = sorted(texts, key=lambda text: (len(text), text))
    vectors = embedder.embed_passages(ordered) if ordered else ()
    by_text = dict(zip(ordered, vectors, strict=True))
    return [(number, _embedded(part, by_text, embedder.dimension)) for number, part in parts]


def _embedded(part: Part, by_text: Mapping[str, Vectors], dimension: int) -> Part:
    if not isinstance(part, UnembeddedDocument):
        return part
    rows = [by_text[text] for text in part.texts]
    vectors = np.stack(rows) if rows else np.empty((0, dimension), dtype=np.float32)
    return EmbeddedDocument(part.document, part.content_hash, part.chunks, vectors)
