"""Data in flight between the stages: immutable, without behaviour, known to every layer."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Attributes = Mapping[str, str | float | bool]
# Rows are texts, columns are dimensions, float32, each row of unit length.
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Document:
    """The text of a file, or of one row of a .jsonl file, as a loader read it."""

    document_id: str
    title: str
    text: str
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of a document: `document.text[start:end]`, offsets in characters."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class EmbeddedDocument:
    """A document with its chunks and one vector per chunk, ready to be stored in one transaction."""

    document: Document
    content_hash: str
    chunks: tuple[Chunk, ...]
    vectors: Vectors


@dataclass(frozen=True, slots=True)
class VectorStore:
    """A collection of files that is searched together, embedded by one model."""

    id: str
    name: str
    created_at: int
    embedding_id: int
    embedding_model: str
    dimension: int


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a vector store. `fingerprint` is set once all of its documents are stored."""

    id: str
    vector_store_id: str
    source: str
    filename: str
    bytes: int
    created_at: int
    status: str
    fingerprint: str | None


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """How far a derived index has followed a vector store's log."""

    chunk_id: int = 0
    deletion_id: int = 0


@dataclass(frozen=True, slots=True)
class LoggedChunk:
    """A chunk as the derived indexes need it."""

    id: int
    title: str
    text: str
    vector: Vectors


@dataclass(frozen=True, slots=True)
class LogPage:
    """The next stretch of a vector store's log: chunks added, chunk ids deleted, and the cursor after both."""

    added: tuple[LoggedChunk, ...]
    deleted_chunk_ids: tuple[int, ...]
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched for, and in which vector stores."""

    text: str
    vector_stores: tuple[VectorStore, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that a retriever found; the score's meaning is the retriever's own, higher is better."""

    chunk_id: int
    score: float


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk with everything that a prompt, a citation or a client needs. `rank` counts from 1, best first."""

    id: int
    document_id: str
    file_id: str
    filename: str
    title: str
    text: str
    start: int
    end: int
    score: float
    rank: int
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Citation:
    """A stretch of an answer and the passage that it rests on.

    `number` is the mark in the answer ([2] is 2), or None when the sentence carries no mark and was matched by its words.
    `quote` is `document.text[start:end]`; it is None, with its offsets, when nothing in the passage supports the sentence.
    """

    passage: Passage
    number: int | None
    answer_start: int
    answer_end: int
    quote: str | None
    start: int | None
    end: int | None

    @property
    def verified(self) -> bool:
        """Whether the passage's own words support the sentence."""
        return self.quote is not None
