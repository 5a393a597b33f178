"""The bodies that this server reads itself. Fields of OpenAI's that it does not know are ignored; its own must be right."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rag_server.config import ReorderKind, RerankKind, RetrieveKind

MAX_QUERY_CHARACTERS = 100_000
MAX_DOCUMENTS = 1000
MAX_DOCUMENT_CHARACTERS = 1_000_000


class RagBody(BaseModel):
    """The `rag` object of a request; what it leaves out is as the settings say."""

    model_config = ConfigDict(extra="forbid", strict=True)

    vector_store_ids: list[str] | None = Field(None, max_length=32)
    rewrite: bool | None = None
    retrieve: RetrieveKind | None = None
    num_candidates: int | None = Field(None, ge=1, le=1000)
    rerank: RerankKind | None = None
    reorder: ReorderKind | None = None
    num_passages: int | None = Field(None, ge=1, le=200)
    filters: dict[str, Any] | None = None


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
