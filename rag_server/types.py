"""Data in flight between the stages: immutable, without behaviour, known to every layer."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Attributes = Mapping[str, str | float | bool]
# Rows are texts, columns are dimensions, float32, each row of unit length.
Vectors = npt.NDArray[np.float32]
# Ascending, each once, int64.
ChunkIds = npt.NDArray[np.int64]
SectionKind = Literal["page", "sheet", "slide", "heading"]
# Where in its document a chunk starts, by kind of section: {"page": 3.0, "heading": "Methods"}. Filters find it by these names.
Place = Mapping[str, str | float]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a document that a citation can name; it reaches to the next section of its kind (and level).

    `start` is its first character in the document's text; `label` is the number of a page or slide (a float, counted
    from 1), or the name of a sheet or heading. `level` is a heading's depth from 1, and 0 for every other kind.
    """

    start: int
    kind: SectionKind
    label: str | float
    level: int = 0


@dataclass(frozen=True, slots=True)
class Document:
    """The text of a file, or of one row of a .jsonl file, as a loader read it."""

    document_id: str
    title: str
    text: str
    attributes: Attributes = field(default_factory=dict)
    # In the order of their starts.
    sections: tuple[Section, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of a document: `document.text[start:end]`, offsets in characters."""

    start: int
    end: int
    place: Place = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EmbeddedDocument:
    """A document with its chunks and one vector per chunk, ready to be stored in one transaction."""

    document: Document
    content_hash: str
    chunks: tuple[Chunk, ...]
    vectors: Vectors


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk with its vector, as an earlier run stored it."""

    title: str
    text: str
    place: Place
    vector: Vectors


@dataclass(frozen=True, slots=True)
class UnembeddedChunk:
    """A chunk that has no vector of some model yet."""

    id: int
    title: str
    text: str
    place: Place


@dataclass(frozen=True, slots=True)
class Access:
    """Who asks: a tenant sees its own vector stores only, and of restricted files those that name one of `principals`.

    `principals` None sees every file of the tenant. The default is the person at the machine.
    """

    tenant: str = ""
    principals: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class VectorStore:
    """A collection of files that is searched together, embedded by one model.

    One that was given no name goes by its id. `expires_after_days` counts from `last_active_at`; None is never.
    """

    id: str
    tenant: str
    name: str
    created_at: int
    embedding_id: int
    embedding_model: str
    embedding_location: str | None
    dimension: int
    description: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)
    expires_after_days: int | None = None
    last_active_at: int = 0


@dataclass(frozen=True, slots=True)
class NewVectorStore:
    """What is known of a vector store before it is made; `name` None means that it goes by its id."""

    name: str | None = None
    description: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    expires_after_days: int | None = None


FileStatus = Literal["queued", "in_progress", "completed", "failed", "cancelled"]
FileErrorCode = Literal["server_error", "unsupported_file", "invalid_file"]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a vector store. `fingerprint` is set once all of its documents are stored.

    `principals` None means that everyone of the tenant may read it; `chunking` None means as the settings say.
    """

    key: int
    id: str
    vector_store_id: str
    source: str
    filename: str
    bytes: int
    created_at: int
    status: FileStatus
    fingerprint: str | None
    attributes: Attributes
    principals: tuple[str, ...] | None
    chunking: Mapping[str, int] | None
    error: str | None
    bytes_read: int
    error_code: FileErrorCode | None = None


@dataclass(frozen=True, slots=True)
class NewFile:
    """What is known of a file before it is read; `id` None means that it gets one of its own.

    With `keeps_principals`, a file that is there already stays readable for whom it was, and `principals` is of a new one.
    """

    source: str
    filename: str
    bytes: int
    id: str | None = None
    attributes: Attributes = field(default_factory=dict)
    principals: tuple[str, ...] | None = None
    chunking: Mapping[str, int] | None = None
    keeps_principals: bool = False


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that was sent to this server, whether or not a vector store holds it; from `expires_at` on it is gone."""

    id: str
    tenant: str
    filename: str
    purpose: str
    bytes: int
    created_at: int
    expires_at: int | None = None


UploadStatus = Literal["pending", "completed", "cancelled", "expired"]


@dataclass(frozen=True, slots=True)
class UploadSession:
    """A file that is sent in parts: `bytes` as announced, `file_id` of the upload that it becomes."""

    id: str
    file_id: str
    filename: str
    purpose: str
    mime_type: str
    bytes: int
    created_at: int
    expires_at: int
    file_expires_after_s: int | None
    status: UploadStatus


@dataclass(frozen=True, slots=True)
class NewUploadSession:
    """What is known of a file before its parts come."""

    filename: str
    purpose: str
    mime_type: str
    bytes: int
    file_expires_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class UploadPart:
    """A stretch of a file that is sent in parts."""

    id: str
    session_id: str
    bytes: int
    created_at: int


@dataclass(frozen=True, slots=True)
class FileBatch:
    """Files that were put into a vector store together, with how many of those that are in sight are in which state."""

    id: str
    vector_store_id: str
    created_at: int
    cancelled_at: int | None
    counts: Mapping[FileStatus, int]


@dataclass(frozen=True, slots=True)
class Conversation:
    """Items that belong together: what was said, called and answered, which responses are made in and add to."""

    id: str
    created_at: int
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class StoreUsage:
    """How many files of a vector store are in which state, and how large they are together."""

    counts: Mapping[FileStatus, int]
    bytes: int


# What a key may be used for: asking (answers, searches, embeddings, rankings), reading stored objects, changing them.
Scope = Literal["ask", "read", "write"]


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What lets a program in; the secret itself is not kept. `scopes` None is all of them, `expires_at` None is never.

    `limits` overrides the settings' limits for this key, by their names in LimitsSettings.
    """

    id: str
    name: str
    access: Access
    created_at: int
    revoked_at: int | None
    expires_at: int | None = None
    scopes: frozenset[Scope] | None = None
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request. `key_id` None is the person at the machine, or anybody where no key is required.

    `scopes` and `limits` are those of the key, `key_name` its name; None is all scopes.
    """

    access: Access = field(default_factory=Access)
    key_id: str | None = None
    scopes: frozenset[Scope] | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    key_name: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A stretch of a list: `limit` objects after the one with the id `after`, or before the one with the id `before`."""

    limit: int = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | int | None = None
    before: str | None = None


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


ComparisonOperator = Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
FilterValue = str | float | bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Holds where the attribute `key` compares so with `value`: one value, or a tuple of them for `in` and `nin`.

    Without the attribute only `ne` and `nin` hold. Values of different types are never equal, and neither greater nor less.
    """

    operator: ComparisonOperator
    key: str
    value: FilterValue | tuple[FilterValue, ...]


@dataclass(frozen=True, slots=True)
class Compound:
    """Holds where all (`and`) or any (`or`) of the filters hold."""

    operator: Literal["and", "or"]
    filters: tuple["Filter", ...]


Filter = Comparison | Compound


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched for, in which vector stores, by whom, and among which chunks.

    `heads` says, by the ids of the vector stores, how far their logs had come when the request came, so that it is read once
    for all stages; what is missing there is read by whoever needs it.
    """

    text: str
    vector_stores: tuple[VectorStore, ...]
    access: Access = field(default_factory=Access)
    filter: Filter | None = None
    heads: Mapping[str, Cursor] = field(default_factory=dict, compare=False)


class FoundAt(NamedTuple):
    """Where a chunk stands in the ranking of the retriever of that name; `rank` counts from 1, best first."""

    retriever: str
    rank: int
    score: float


class Hit(NamedTuple):
    """A chunk that a retriever found; the score's meaning is the retriever's own, higher is better.

    `found` says where it stood in the rankings that were fused into this one, and is empty where none were.
    """

    chunk_id: int
    score: float
    found: tuple[FoundAt, ...] = ()


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
    place: Place = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredPassage:
    """A passage by its address: in which vector store it is, and how many characters the text of its document has."""

    passage: Passage
    vector_store_id: str
    characters: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a document's text, `document.text[start:end]` of a text of `characters`.

    `sections` are those that start in it, and before them the one of each kind that it starts in.
    """

    document_id: str
    title: str
    characters: int
    start: int
    end: int
    text: str
    sections: tuple[Section, ...]


@dataclass(frozen=True, slots=True)
class RankingReport:
    """What a reranking took and what was wrong with it, summed over its calls of a model.

    An output is `well_formed` when it is what the prompt asks for and nothing else, and `repaired` when its order had to be
    completed or cleaned. `missing` counts the candidates that the outputs should have named and did not, `unread` those that
    did not fit into the prompt; both keep the order of the first stage, after the others. `words_cut` of `words` were left
    out of the prompts to make the passages fit. `fallback` says why the first stage's order was used instead.
    """

    calls: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    seconds: float = 0.0
    well_formed: int = 0
    repaired: int = 0
    missing: int = 0
    unread: int = 0
    words: int = 0
    words_cut: int = 0
    fallback: str | None = None

    def __add__(self, other: "RankingReport") -> "RankingReport":
        """Return the sums; of two fallbacks the first."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in RANKING_COUNTERS}
        return RankingReport(**sums, fallback=self.fallback or other.fallback)


RANKING_COUNTERS = tuple(part.name for part in fields(RankingReport) if part.name != "fallback")


@dataclass(frozen=True, slots=True)
class Ranking:
    """Candidates in a reranker's order, with `rank` set anew, and how they came to it."""

    passages: tuple[Passage, ...]
    report: RankingReport = field(default_factory=RankingReport)


@dataclass(frozen=True, slots=True)
class Search:
    """What a search found: its hits, best first, and of those whose text was read the order after reranking."""

    hits: tuple[Hit, ...]
    ranking: Ranking


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence of an answer that claims something, and whether some passage that it rests on supports it."""

    answer_start: int
    answer_end: int
    verified: bool


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
