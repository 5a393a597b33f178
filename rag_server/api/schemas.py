"""The bodies that this server reads itself. Fields of OpenAI's that it does not know are ignored; its own must be right."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from rag_server.config import ReorderKind, RerankKind, RetrieveKind

MAX_QUERY_CHARACTERS = 100_000
MAX_DOCUMENTS = 1000
MAX_DOCUMENT_CHARACTERS = 1_000_000


class RagBody(BaseModel):
    """The `rag` object of a request; what it leaves out is as the settings say."""

    model_config = ConfigDict(extra="forbid", strict=True)

    vector_store_ids: list[str] | None = Field(None, max_length=32)
    retrieve: RetrieveKind | None = None
    num_candidates: int | None = Field(None, ge=1, le=1000)
    rerank: RerankKind | None = None
    reorder: ReorderKind | None = None
    num_passages: int | None = Field(None, ge=1, le=200)
    filters: dict[str, Any] | None = None


class ChatBody(BaseModel):
    """A chat completion request; everything but `rag` goes on to the engine."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: list[dict[str, Any]] = Field(min_length=1)
    stream: bool | None = None
    rag: RagBody | None = None


class StaticChunking(BaseModel):
    """How a file is cut; the bounds are OpenAI's."""

    model_config = ConfigDict(extra="forbid")

    max_chunk_size_tokens: int = Field(800, ge=100, le=4096)
    chunk_overlap_tokens: int = Field(400, ge=0)

    @model_validator(mode="after")
    def _overlap_at_most_half(self) -> "StaticChunking":
        if self.chunk_overlap_tokens > self.max_chunk_size_tokens // 2:
            raise ValueError("chunk_overlap_tokens must be at most half of max_chunk_size_tokens")
        return self


class ChunkingStrategy(BaseModel):
    """`auto` is as the settings say."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["auto", "static"]
    static: StaticChunking | None = None

    @model_validator(mode="after")
    def _static_has_numbers(self) -> "ChunkingStrategy":
        if (self.type == "static") != (self.static is not None):
            raise ValueError("give `static` its numbers, and `auto` none")
        return self


class FileRagBody(BaseModel):
    """What this server adds to a file: who may read it; None is everyone of the tenant."""

    model_config = ConfigDict(extra="forbid", strict=True)

    principals: list[Annotated[str, StringConstraints(min_length=1, max_length=256)]] | None = Field(None, max_length=256)


class AttachBody(BaseModel):
    """A file to put into a vector store."""

    file_id: str
    attributes: dict[str, Any] | None = None
    chunking_strategy: ChunkingStrategy | None = None
    rag: FileRagBody = FileRagBody()


class AttributesBody(BaseModel):
    """The attributes of a file, which replace those that it has."""

    attributes: dict[str, Any] | None


class CreateVectorStoreBody(BaseModel):
    """A vector store to make, with the files that it begins with."""

    name: str
    file_ids: list[str] = Field(default=[], max_length=500)
    chunking_strategy: ChunkingStrategy | None = None


class RenameBody(BaseModel):
    """A vector store's new name."""

    name: str


class SearchBody(BaseModel):
    """A search in one vector store, as in OpenAI's API."""

    query: (
        Annotated[str, StringConstraints(min_length=1, max_length=MAX_QUERY_CHARACTERS)]
        | Annotated[
            list[Annotated[str, StringConstraints(max_length=MAX_QUERY_CHARACTERS)]], Field(min_length=1, max_length=16)
        ]
    )
    max_num_results: int = Field(10, ge=1, le=50)
    filters: dict[str, Any] | None = None
    rewrite_query: Literal[False] = False
    rag: RagBody | None = None


class RerankDocument(BaseModel):
    """A document to rank: its text, or an object with the text."""

    text: str = Field(max_length=MAX_DOCUMENT_CHARACTERS)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return {"text": value} if isinstance(value, str) else value


class RerankBody(BaseModel):
    """A request to rank documents, in what Jina's, vLLM's and Cohere's shapes have in common.

    `max_tokens_per_doc` is counted in words, since every model has tokens of its own; 0 is vLLM's word for no limit.
    """

    model: str | None = None
    query: str = Field(min_length=1, max_length=MAX_QUERY_CHARACTERS)
    documents: list[RerankDocument] = Field(min_length=1, max_length=MAX_DOCUMENTS)
    top_n: int | None = Field(None, ge=1)
    max_tokens_per_doc: int | None = Field(None, ge=0)


class JinaRerankBody(RerankBody):
    """A request in the shape of Jina and vLLM."""

    return_documents: bool | None = None
