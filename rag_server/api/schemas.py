"""The bodies that this server reads itself. Fields of OpenAI's that it does not know are ignored; its own must be right."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from rag_server.config import ReorderKind, RerankKind, RetrieveKind

MAX_QUERY_CHARACTERS = 100_000


class RagBody(BaseModel):
    """The `rag` object of a request; what it leaves out is as the settings say."""

    model_config = ConfigDict(extra="forbid", strict=True)

    vector_store_ids: list[str] | None = Field(None, max_length=32)
    retrieve: RetrieveKind | None = None
    num_candidates: int | None = Field(None, ge=1, le=1000)
    rerank: RerankKind | None = None
    reorder: ReorderKind | None = None
    num_passages: int | None = Field(None, ge=1, le=200)


class ChatBody(BaseModel):
    """A chat completion request; everything but `rag` goes on to the engine."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: list[dict[str, Any]] = Field(min_length=1)
    stream: bool | None = None
    rag: RagBody | None = None


class SearchBody(BaseModel):
    """A search in one vector store, as in OpenAI's API."""

    query: (
        Annotated[str, StringConstraints(min_length=1, max_length=MAX_QUERY_CHARACTERS)]
        | Annotated[
            list[Annotated[str, StringConstraints(max_length=MAX_QUERY_CHARACTERS)]], Field(min_length=1, max_length=16)
        ]
    )
    max_num_results: int = Field(10, ge=1, le=50)
    filters: None = Field(None, description="Not supported yet; refused rather than ignored.")
    rewrite_query: Literal[False] = False
    rag: RagBody | None = None
