"""What tests of the store have in common: a model that is only a name, documents with known vectors, plain SQL."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import text

from rag_server.factory import Store
from rag_server.types import Attributes, Chunk, Document, EmbeddedDocument, Place

DIMENSION = 4


@dataclass(frozen=True)
class Model:
    """What the store reads of an embedding model."""

    model_id: str = "m"
    dimension: int = DIMENSION
    location: str | None = None


MODEL = Model()


def embedded(
    document_id: str,
    *sentences: str,
    attributes: Attributes | None = None,
    places: Sequence[Place] = (),
) -> EmbeddedDocument:
    """A document with one chunk per sentence, whose vectors are the unit vectors in turn."""
    whole = "".join(sentences)
    ends = np.cumsum([len(sentence) for sentence in sentences]).tolist()
    starts = [0, *ends[:-1]]
    spans = zip(starts, ends, places or [{}] * len(sentences), strict=True)
    chunks = tuple(Chunk(start, end, place) for start, end, place in spans)
    vectors = np.eye(DIMENSION, dtype=np.float32)[np.arange(len(chunks)) % DIMENSION]
    own = {"year": 1999} if attributes is None else attributes
    return EmbeddedDocument(Document(document_id, "Title", whole, own), f"hash of {whole}", chunks, vectors)


def rows(store: Store, query: str, values: Mapping[str, object] | None = None) -> list[tuple]:
    """What a query written by hand finds."""
    with store.database.read() as connection:
        return [tuple(row) for row in connection.execute(text(query), values or {})]
