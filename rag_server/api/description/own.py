"""What this server's own routes answer, and what it adds to OpenAI's objects."""

from typing import Annotated, Any, Generic, Literal, TypeVar

from openai.types import Completion, CompletionChoice, FilePurpose, Model, VectorStoreSearchResponse
from openai.types.conversations import ConversationItem
from openai.types.responses import ResponseItem
from openai.types.vector_stores import FileContentResponse
from pydantic import BaseModel, Field

from rag_server.config import ReorderKind, RerankKind, RetrieveKind
from rag_server.types import Scope

Item = TypeVar("Item")
Bytes = Annotated[str, Field(json_schema_extra={"format": "binary"})]
# Where a passage stands in its file: a page, a slide, a heading, ...
Place = dict[str, Any]


class Error(BaseModel):
    """OpenAI's error object."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorResponse(BaseModel):
    """What every refusal and failure is answered with."""

    error: Error


class RankingObject(BaseModel):
    """How the passages came to their order; `fallback` says why it is the first stage's, if it is."""

    kind: RerankKind
    calls: int
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int
    seconds: float
    well_formed: int
    repaired: int
    missing: int
    unread: int
    words: int
    words_cut: int
    fallback: str | None


class CitedFile(BaseModel):
    """A file that an answer cites; `index` counts the passages of the answer from 0."""

    file_id: str
    filename: str
    index: int


class FileCitation(BaseModel):
    """What this server adds to the annotations of a chat completion."""

    type: Literal["file_citation"]
    file_citation: CitedFile


class TextChunkChoice(CompletionChoice):
    """A piece of a text; the last one says why it ends."""

    finish_reason: Literal["stop", "length", "content_filter"] | None  # type: ignore[assignment]


class TextChunk(Completion):
    """A piece of a streamed text completion."""

    choices: list[TextChunkChoice]  # type: ignore[assignment]


class StoredPassage(BaseModel):
    """A passage; `start` and `end` are character offsets in the document's text."""

    id: int
    document_id: str
    file_id: str
    filename: str
    title: str
    text: str
    start: int
    end: int
    place: Place
    url: str


class PassageResponse(StoredPassage):
    """A passage by its address."""

    object: Literal["passage"]
    vector_store_id: str
    attributes: dict[str, Any]
    characters: int


class ListedPassage(StoredPassage):
    """A passage of a file."""

    object: Literal["passage"]
    vector_store_id: str
    attributes: dict[str, Any]


class TextSection(BaseModel):
    """A part of a document; a heading has the level of its depth from 1, every other kind 0."""

    start: int
    kind: Literal["page", "sheet", "slide", "heading"]
    label: float | str
    level: int


class PassageText(BaseModel):
    """A stretch of the text of a passage's document, which has so many `characters`."""

    object: Literal["passage.text"]
    passage_id: int
    document_id: str
    title: str
    characters: int
    start: int
    end: int
    text: str
    sections: list[TextSection]


class RankedPassage(StoredPassage):
    """A passage that was given to the engine."""

    score: float
    rank: int


class Citation(BaseModel):
    """A sentence of the answer and the passage that it cites; the quote is null unless it supports the sentence."""

    passage_id: int
    number: int | None
    answer_start: int
    answer_end: int
    quote: str | None
    start: int | None
    end: int | None
    verified: bool


class SearchedQuery(BaseModel):
    """What was searched for in place of the question; `fallback` says why it was not rewritten although it should be."""

    original: str
    searched: str
    rewritten: bool
    fallback: str | None


class Sentence(BaseModel):
    """A sentence of the answer that claims something, and whether a passage that it rests on supports it."""

    answer_start: int
    answer_end: int
    verified: bool


class RankedAt(BaseModel):
    """A place in a ranking, counted from 1; a ranking without scores has null."""

    rank: int
    score: float | None


class CandidateRanks(BaseModel):
    """Where each ranking had a candidate; null where it was not made, or did not hold it."""

    dense: RankedAt | None
    lexical: RankedAt | None
    fusion: RankedAt | None
    rerank: RankedAt | None


class Candidate(BaseModel):
    """A passage that the search found, with the beginning of its text.

    `number` is that of its mark in the answer; `left_out` says why it has none: its rank, or no room in the prompt.
    """

    passage_id: int
    file_id: str
    filename: str
    title: str
    start: int
    end: int
    place: Place
    text: str
    url: str
    ranks: CandidateRanks
    number: int | None
    left_out: Literal["rank", "room"] | None


class Trace(BaseModel):
    """Every candidate of the search, in the order of the last ranking."""

    candidates: list[Candidate]


class Answer(BaseModel):
    """The passages that an answer rests on; citations once it is complete. In a stream, parts come as they are known."""

    query: SearchedQuery | None = None
    passages: list[RankedPassage] | None = None
    num_dropped: int | None = None
    rerank: RankingObject | None = None
    cached: Literal["exact", "semantic"] | None = None
    trace: Trace | None = None
    citations: list[Citation] | None = None
    sentences: list[Sentence] | None = None
    timings_ms: dict[str, float] | None = None


class RewrittenQueries(BaseModel):
    """The queries before they were rewritten, and why one was not, if it was not."""

    queries: list[str]
    fallback: str | None


class SearchReport(BaseModel):
    """How a search went; `score` names what the results' scores are."""

    rewrite: RewrittenQueries | None = None
    score: Literal["cosine", "bm25", "fused_ranks", "model", "model_logistic", "reciprocal_rank"]
    rerank: RankingObject
    timings_ms: dict[str, float]


class ResultPlace(BaseModel):
    """Where a result of a search stands."""

    passage_id: int
    title: str
    start: int
    end: int
    place: Place
    url: str


class IndexedFile(BaseModel):
    """What was read of a file."""

    filename: str
    bytes_read: int
    is_queued: bool


class RerankedDocument(BaseModel):
    """A document by its position in the request."""

    index: int
    relevance_score: float


class RerankedText(RerankedDocument):
    """A document with its text."""

    document: dict[str, str] | None = None


class RerankReport(BaseModel):
    """How scores and order came about."""

    kind: RerankKind
    score: Literal["model", "reciprocal_rank"]
    rerank: RankingObject


class JinaRerankResponse(BaseModel):
    """Documents in their new order, as Jina and vLLM answer."""

    id: str
    object: Literal["list"]
    model: str
    usage: dict[str, int]
    results: list[RerankedText]
    rag: RerankReport


class CohereRerankResponse(BaseModel):
    """Documents in their new order, as Cohere answers."""

    id: str
    results: list[RerankedDocument]
    meta: dict[str, Any]
    rag: RerankReport


class Health(BaseModel):
    """That the server answers."""

    status: Literal["ok"]
    version: str


class KeyObject(BaseModel):
    """The API key of a request; without one, id and name are null."""

    id: str | None
    name: str | None
    scopes: list[Scope]


class Defaults(BaseModel):
    """How passages are found and placed where a request says nothing."""

    retrieve: RetrieveKind
    num_candidates: int
    rerank: RerankKind
    reorder: ReorderKind
    num_passages: int
    rewrite: bool


class ServerLimits(BaseModel):
    """How large a file may be, and a part of one."""

    max_file_bytes: int
    max_part_bytes: int


class ServerObject(BaseModel):
    """What this server does, what requests may choose, and what the key may be used for."""

    object: Literal["rag.server"]
    version: str
    key: KeyObject
    defaults: Defaults
    retrieve: list[RetrieveKind]
    rerank: list[RerankKind]
    reorder: list[ReorderKind]
    limits: ServerLimits


class Readiness(BaseModel):
    """Whether questions are answered, and what is missing."""

    status: Literal["ready", "starting", "shutting_down"]
    missing: dict[str, str]


class ListOf(BaseModel, Generic[Item]):
    """A page of a list; an empty one has no ids."""

    object: Literal["list"]
    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ListOfPassages(ListOf[ListedPassage]):
    """The passages of a file, whose ids are numbers."""

    first_id: int | None  # type: ignore[assignment]
    last_id: int | None  # type: ignore[assignment]


class ResponseItems(ListOf[ResponseItem]):
    """The items of a response's input."""


class ConversationItems(ListOf[ConversationItem]):
    """The items of a conversation."""


class SearchPage(BaseModel):
    """The results of a search."""

    object: Literal["vector_store.search_results.page"]
    search_query: list[str]
    data: list[VectorStoreSearchResponse]
    has_more: bool
    next_page: str | None
    rag: SearchReport


class ContentPage(BaseModel):
    """The text of a file in a vector store."""

    object: Literal["vector_store.file_content.page"]
    data: list[FileContentResponse]
    has_more: bool
    next_page: str | None


class Models(BaseModel):
    """The models of the engine, and one per vector store."""

    object: Literal["list"]
    data: list[Model]


class DeletedResponse(BaseModel):
    """A response that is gone."""

    id: str
    object: Literal["response.deleted", "response"]
    deleted: Literal[True]


class FileExpiry(BaseModel):
    """When a file is gone."""

    anchor: Literal["created_at"]
    seconds: int


class FileForm(BaseModel):
    """A file to store; `url` may stand in its place, and is fetched if it leads to a public address."""

    file: Bytes
    url: str | None = None
    purpose: FilePurpose
    expires_after: FileExpiry | None = None


class PartForm(BaseModel):
    """A part of a file."""

    data: Bytes
