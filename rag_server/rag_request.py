"""What the pipeline is asked: a chat request, the vector stores to answer it from, and how passages are found and placed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rag_server.answer import PassageUrl
from rag_server.config import ReorderKind, RerankKind, RetrieveKind
from rag_server.protocols import Json
from rag_server.types import Access, Filter, Ranking, VectorStore

# How a question is like the one whose answer was remembered for it.
CacheMatch = Literal["exact", "semantic"]


@dataclass(frozen=True, slots=True)
class RagOptions:
    """How passages are found and placed: the settings, or what a request says instead."""

    retrieve: RetrieveKind
    num_candidates: int
    rerank: RerankKind
    reorder: ReorderKind
    num_passages: int
    # Whether a follow-up question is turned into one that can be searched for by itself.
    rewrite: bool = False
    # Leaves out passages that were found. A dataclass, since answers are remembered by its fields.
    select: Callable[[Ranking], Ranking] | None = None


@dataclass(frozen=True, slots=True)
class RagRequest:
    """A chat request to be answered from vector stores.

    `body` goes to the engine with only its model and messages replaced; `model_name` is what the client asked for and is
    named in the answer; `engine_model` None means the engine's default. With `trace` the answer tells how each candidate fared.
    """

    body: Json
    model_name: str
    engine_model: str | None
    vector_stores: tuple[VectorStore, ...]
    options: RagOptions
    passage_url: PassageUrl
    access: Access
    filter: Filter | None = None
    trace: bool = False
