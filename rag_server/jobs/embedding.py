"""Embeds the texts of chunks, and gives the chunks of a document their vectors."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from rag_server.protocols import Embedder
from rag_server.types import Vectors


def vectors_by_text(embedder: Embedder, texts: AbstractSet[str]) -> dict[str, Vectors]:
    """Return the vector of each text, computed in order of length, so that a batch holds little padding."""
    ordered = sorted(texts, key=lambda text: (len(text), text))
    vectors = embedder.embed_passages(ordered) if ordered else ()
    return dict(zip(ordered, vectors, strict=True))


def rows_of(texts: Sequence[str], by_text: Mapping[str, Vectors], dimension: int) -> Vectors:
    """Return the vectors of the texts, (len(texts), dimension) float32."""
    rows = [by_text[text] for text in texts]
    return np.stack(rows) if rows else np.empty((0, dimension), dtype=np.float32)
