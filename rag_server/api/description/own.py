"""What this server's own routes answer, and what it adds to OpenAI's objects."""

from typing import Annotated, Any, Generic, Literal, TypeVar

from openai.types import Completion, CompletionChoice, FilePurpose, Model, VectorStoreSearchResponse
from openai.types.conversations import ConversationItem
from openai.types.responses import ResponseItem
from openai.types.vector_stores import FileContentResponse
from pydantic import BaseModel, Field

from rag_server.api.description.own_answers import ListedPassage, Place, RankingObject
from rag_server.config import ReorderKind, RerankKind, RetrieveKind
from rag_server.types import Scope

Item = TypeVar("Item")
Bytes = Annotated[str, Field(json_schema_extra={"format": "binary"})]


class Error(BaseModel):
    """OpenAI's error object."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorResponse(BaseModel):
    """What every refusal and failure is answered with."""

    error: Error


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
    """Whether questions are answered, and what is missing; of several engines, which are ready."""

    status: Literal["ready", "starting", "shutting_down"]
    missing: dict[str, str]
    engines: dict[str, str] | None = None


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
