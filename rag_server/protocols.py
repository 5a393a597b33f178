"""Every seam between the stages. Classes fit these by shape; nothing inherits from them."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Protocol

from rag_server.types import Access, ChunkIds, Cursor, Hit, LogPage, Passage, Query, Ranking, Vectors, VectorStore

# An OpenAI wire object, handed through without being understood in full.
Json = dict[str, Any]


class Embedder(Protocol):
    """Turns texts into unit vectors; queries and passages may be treated differently."""

    @property
    def model_id(self) -> str:
        """The name that a vector store remembers; equal names must mean equal vectors."""

    @property
    def location(self) -> str | None:
        """Where the model can be loaded from again; None is the packaged one."""

    @property
    def dimension(self) -> int:
        """The number of columns of every vector."""

    @property
    def max_tokens(self) -> int:
        """The number of tokens of a text that are read; the rest would be cut off."""

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return one row per query."""

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Return one row per passage."""

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return the character span of every token of `text`, in order, special tokens left out."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of tokens of the model's own vocabulary, special tokens left out.

        Raises:
            InvalidRequestError: An id is not in the vocabulary.
        """

    def shortens_to(self, dimension: int) -> bool:
        """Return whether the first `dimension` columns, brought to unit length, are vectors as well (Matryoshka)."""


class Embedders(Protocol):
    """The embedding models of every vector store that is searched."""

    def of(self, vector_store: VectorStore) -> Embedder:
        """Return the model that the vector store's vectors come from, loaded on first use."""


class QueryVectors(Protocol):
    """Turns queries into vectors of the model of a vector store."""

    async def vector(self, vector_store: VectorStore, text: str) -> Vectors:
        """Return the query's unit vector, one row without its axis."""


class ChunkLog(Protocol):
    """The part of the truth store that derived indexes follow."""

    def head(self, vector_store: VectorStore) -> Cursor:
        """Return the cursor of the newest chunk and deletion."""

    def read(self, vector_store: VectorStore, after: Cursor, limit: int) -> LogPage:
        """Return at most `limit` chunks after the cursor and, once no chunk is left, the deletions; one consistent view."""

    def living(self, vector_store: VectorStore, chunk_ids: ChunkIds) -> ChunkIds:
        """Return those of the chunks that the vector store has, ascending."""

    def num_chunks(self, vector_store: VectorStore) -> int:
        """Return how many chunks the vector store has."""


class ChunkSelection(Protocol):
    """The part of the truth store that says which chunks a query may find."""

    def chunk_ids(self, vector_store: VectorStore, query: Query) -> ChunkIds | None:
        """Return the chunks that the query's access and filter admit; None means all of them."""


class PassageStore(Protocol):
    """The part of the truth store that a query needs."""

    def of_each(self, asked: Sequence[tuple[Sequence[Hit], Access]]) -> list[list[Passage]]:
        """Return for each the passages of its hits, in their order and ranked from 1.

        Those that are deleted or closed to its access are left out.
        """


class DerivedIndex(Protocol):
    """An index that can be rebuilt from the log at any time."""

    @property
    def cursor(self) -> Cursor:
        """How far the log has been applied."""

    def apply(self, page: LogPage) -> None:
        """Apply the next page of the log."""

    def save(self) -> None:
        """Make what was applied durable, so that the next start need not replay it."""


class VectorIndex(DerivedIndex, Protocol):
    """Nearest neighbours by inner product."""

    def search(self, vector: Vectors, k: int, *, allowed: ChunkIds | None = None) -> list[Hit]:
        """Return the `k` nearest chunks (of `allowed`), nearest first, fewer only if there are fewer; `vector` is one row."""

    def search_each(self, vectors: Sequence[Vectors], k: int, *, allowed: ChunkIds | None = None) -> list[list[Hit]]:
        """Return what `search` finds for each."""


class LexicalIndex(DerivedIndex, Protocol):
    """Best matches by BM25."""

    def search(self, text: str, k: int, *, allowed: ChunkIds | None = None) -> list[Hit]:
        """Return the `k` best chunks (of `allowed`) that share a word with `text`, best first; any text is a valid query."""


class Indexes(Protocol):
    """The derived indexes of every vector store, as fresh as the truth at the time of the call, or at least as `head`."""

    def vectors(self, vector_store: VectorStore, *, head: Cursor | None = None) -> VectorIndex:
        """Return the vector index after it has caught up with the log, whose head the caller may have read just now."""

    def lexical(self, vector_store: VectorStore, *, head: Cursor | None = None) -> LexicalIndex:
        """Return the lexical index after it has caught up with the log, whose head the caller may have read just now."""


class Retriever(Protocol):
    """Finds candidates."""

    async def retrieve(self, query: Query, k: int) -> list[Hit]:
        """Return up to `k` chunks of the query's vector stores, best first, each once."""


class Reranker(Protocol):
    """Orders candidates anew."""

    async def rerank(self, query: str, passages: Sequence[Passage]) -> Ranking:
        """Return every passage exactly once, best first, with `rank` set anew.

        A reranker that computes scores sets `score` too; a listwise one leaves the first stage's, since it has none.
        """


class ListwiseScorer(Protocol):
    """A model that reads a query and several passages in one context and scores them all at once."""

    async def score(self, query: str, texts: Sequence[str]) -> tuple[list[float], int]:
        """Return one score per text, higher is better, and the number of tokens that were read."""


class Engine(Protocol):
    """A language model behind the OpenAI protocol. Bodies and answers pass through untouched."""

    async def models(self) -> list[Json]:
        """Return the engine's own model objects."""

    async def default_model(self) -> str:
        """Return the id of the model that answers when none is named."""

    async def chat(self, body: Json) -> Json:
        """Return the completion of a chat request."""

    def stream_chat(self, body: Json) -> AsyncGenerator[Json, None]:
        """Yield the chunks of a streamed chat request; closing the iterator ends the engine's work."""

    async def count_tokens(self, model: str, messages: Sequence[Json]) -> int:
        """Return the prompt's length in the model's own tokens, chat template included."""

    async def tokenize(self, model: str, text: str) -> list[tuple[int, str]]:
        """Return id and string of every token of `text` in the model's own vocabulary, without special tokens.

        Raises:
            EngineRequestError: The engine does not tell.
        """

    async def context_length(self, model: str) -> int:
        """Return how many tokens of prompt and answer together fit."""


class Cache(Protocol):
    """Holds what may be lost. Unreachable means a miss, never an error."""

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None."""

    async def set(self, key: str, value: bytes, ttl_s: int) -> None:
        """Keep the value for at most `ttl_s` seconds."""


class Progress(Protocol):
    """Told about the advance of indexing."""

    def started(self, num_files: int, total_bytes: int) -> None:
        """The work is known: so many files, so many bytes."""

    def read_bytes(self, num_bytes: int) -> None:
        """So many bytes of the total are read by now."""

    def stored_chunks(self, num_chunks: int) -> None:
        """So many more chunks are stored durably."""
