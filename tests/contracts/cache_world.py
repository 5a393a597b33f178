"""A small world in which caches can go wrong: real store, indexes and Valkey; an engine whose answer depends on every byte."""

import contextlib
import hashlib
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rag_server import factory
from rag_server.cache import keys
from rag_server.config import Settings, load_settings
from rag_server.observability import StageTimer
from rag_server.pipeline import RagOptions, RagPipeline, RagRequest
from rag_server.protocols import Cache, Json
from rag_server.types import (
    Access,
    Chunk,
    Comparison,
    Document,
    EmbeddedDocument,
    Filter,
    NewFile,
    Query,
    StoredFile,
    VectorStore,
)
from rerankers.first_stage import FirstStageOrder

DIMENSION = 8
TENANTS = ("a", "b")
WORDS = ("mast", "sail", "keel", "rope")
Key = Callable[..., str]


def digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class HashEmbedder:
    """A model in which every text has a direction of its own."""

    model_id, location, dimension, max_tokens = "hash", None, DIMENSION, 512

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.array([np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)[:DIMENSION] for text in texts])
        centred = rows.astype(np.float32) - 127.5
        return centred / np.linalg.norm(centred, axis=1, keepdims=True)

    embed_passages = embed_queries

    def of(self, vector_store: VectorStore) -> "HashEmbedder":
        return self


class DigestEngine:
    """Says something else to every other request; of the body only what is about sending does not count."""

    def __init__(self) -> None:
        self.calls = 0

    async def default_model(self) -> str:
        return "m"

    async def context_length(self, model: str) -> int:
        return 230

    async def count_tokens(self, model: str, messages: Sequence[Json]) -> int:
        return len(json.dumps(list(messages)).split())

    async def chat(self, body: Json) -> Json:
        self.calls += 1
        said = {"role": "assistant", "content": f"{digest(_said(body))} [1]"}
        return {"choices": [{"index": 0, "message": said, "finish_reason": "stop"}], "usage": {"completion_tokens": 1}}

    async def stream_chat(self, body: Json) -> AsyncGenerator[Json, None]:
        content = (await self.chat(body))["choices"][0]["message"]["content"]
        for piece in (content[:5], content[5:]):
            yield {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]}
        yield {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def _said(body: Json) -> Json:
    return {name: value for name, value in body.items() if name not in ("stream", "stream_options")}


class Memory:
    """A cache in a dictionary."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    async def set(self, key: str, value: bytes, ttl_s: int) -> None:
        self.values[key] = value


class Nothing:
    """The cache of a server without one."""

    async def get(self, key: str) -> None:
        return None

    async def set(self, key: str, value: bytes, ttl_s: int) -> None:
        return None


# The place of the vector store, the year, and who may read it.
FILES: list[tuple[int, int, tuple[str, ...] | None]] = [
    *((0, year, principals) for year in (1, 2) for principals in (None, ("ann",), ("bob",))),
    (0, 3, None),
    (1, 1, None),
    (1, 2, ("ann",)),
    (2, 1, None),
]
OF_TWO_YEARS = Comparison("in", "year", (1, 2))


@dataclass(frozen=True)
class Asked:
    """A request, by what an answer may depend on. `server` is one of two with different settings and the same cache."""

    server: int = 0
    tenant: str = "a"
    principals: tuple[str, ...] | None = ("ann",)
    stores: tuple[int, ...] = (0,)
    filter: Filter | None = OF_TWO_YEARS
    retrieve: str = "lexical"
    num_candidates: int = 6
    num_passages: int = 4
    reorder: str = "none"
    model: str | None = None
    question: str = "mast or keel?"
    history: tuple[str, ...] = ()
    sampling: Mapping[str, object] = field(default_factory=dict, hash=False)
    instructions: str | None = None
    stream: bool = False


# What is changed of a request, one at a time: each changes the answer, or what is found.
VARIANTS: dict[str, Asked] = {
    "server": Asked(server=1),
    "tenant": Asked(tenant="b"),
    "principals": Asked(principals=("ann", "bob")),
    "no principals": Asked(principals=None),
    "stores": Asked(stores=(0, 1)),
    "another store": Asked(stores=(1,)),
    "filter": Asked(filter=Comparison("eq", "year", 1)),
    "no filter": Asked(filter=None),
    "retrieve": Asked(retrieve="dense"),
    "num_candidates": Asked(num_candidates=1),
    "num_passages": Asked(num_passages=1),
    "reorder": Asked(reorder="reverse"),
    "model": Asked(model="other"),
    "question": Asked(question="sail or rope?"),
    "history": Asked(history=("Ahoy.", "Ahoy!")),
    "sampling": Asked(sampling={"max_tokens": 7}),
    "instructions": Asked(instructions="Answer like a pirate."),
}


class World:
    """Two vector stores of tenant a and one of tenant b, with files that come, go and change hands."""

    def __init__(self, store: factory.Store, indexes: Any, asking: "Asking") -> None:
        self._store, self._asking = store, asking
        embedder = HashEmbedder()
        names = ((TENANTS[0], "one"), (TENANTS[0], "two"), (TENANTS[1], "one"))
        made = len(store.vector_stores.newest(10_000))
        self.stores = [store.vector_stores.create(f"{name}{made}", Access(tenant), embedder) for tenant, name in names]
        self._files: dict[int, list[tuple[StoredFile, NewFile]]] = {0: [], 1: [], 2: []}
        self._made = 0
        for place, year, principals in FILES:
            self.add(place, year, principals)

    def add(self, place: int, year: int, principals: tuple[str, ...] | None) -> None:
        """Index a file with a few of the words."""
        self._made += 1
        kept = [word for number, word in enumerate(WORDS) if self._made >> number & 1] or [WORDS[0]]
        text = " ".join([*kept, f"number{self._made}", *["filler"] * 20])
        new = NewFile(f"/{self._made}", f"f{self._made}", 1, attributes={"year": year}, principals=principals)
        file = self._store.files.begin(self.stores[place], new)
        vectors = HashEmbedder().embed_passages([text])
        document = EmbeddedDocument(Document(new.filename, "", text), digest(text), (Chunk(0, len(text)),), vectors)
        self._store.documents.put(self.stores[place], file, [document], bytes_read=1)
        self._files[place].append((file, new))

    def delete(self, place: int, number: int) -> None:
        if self._files[place]:
            file, _ = self._files[place].pop(number % len(self._files[place]))
            self._store.files.delete(self.stores[place], file)

    def describe(self, place: int, number: int, year: int, principals: tuple[str, ...] | None) -> None:
        """Give a file another year and other readers."""
        if self._files[place]:
            number %= len(self._files[place])
            file, new = self._files[place][number]
            changed = replace(new, attributes={"year": year}, principals=principals)
            self._store.files.describe(self.stores[place], changed)
            self._files[place][number] = (file, changed)

    async def told(self, asked: Asked, *, cached: bool) -> Json:
        """What a server with or without a cache finds and answers."""
        return await self._asking.told(asked, self.stores, cached=cached)


class Asking:
    """Two servers that share a cache, and the same two without one."""

    def __init__(self, settings: Sequence[Settings], store: factory.Store, indexes: Any, cache: Cache, key: Key) -> None:
        self.engine = DigestEngine()
        original, keys.cache_key = keys.cache_key, key
        try:
            self._pipelines = {
                (server, cached): self._pipeline(one, store, indexes, cache if cached else Nothing())
                for server, one in enumerate(settings)
                for cached in (True, False)
            }
        finally:
            keys.cache_key = original

    def _pipeline(self, settings: Settings, store: factory.Store, indexes: Any, cache: Cache) -> RagPipeline:
        return factory.build_pipeline(
            settings,
            store=store,
            embedders=HashEmbedder(),
            indexes=indexes,
            engine=self.engine,
            cache=cache,
            rerankers={"none": FirstStageOrder()},
        )

    async def told(self, asked: Asked, stores: Sequence[VectorStore], *, cached: bool) -> Json:
        from rag_server import prompt

        pipeline = self._pipelines[asked.server, cached]
        options = RagOptions(asked.retrieve, asked.num_candidates, "none", asked.reorder, asked.num_passages)
        access = Access(asked.tenant, None if asked.principals is None else frozenset(asked.principals))
        searched = tuple(stores[place] for place in asked.stores)
        query = Query(asked.question, searched, access, asked.filter)
        found = await pipeline.find_passages(query, options, StageTimer(), limit=asked.num_passages)
        roles = ("user", "assistant")
        messages = [{"role": roles[place % 2], "content": text} for place, text in enumerate(asked.history)]
        body = {"messages": [*messages, {"role": "user", "content": asked.question}], "temperature": 0, **asked.sampling}
        request = RagRequest(
            {**body, "stream": True} if asked.stream else body,
            "rag/x",
            asked.model,
            searched,
            options,
            str,
            access,
            asked.filter,
        )
        instructions = prompt.INSTRUCTIONS
        prompt.INSTRUCTIONS = asked.instructions or instructions
        try:
            answer = await (_streamed if asked.stream else _whole)(pipeline, request)
        finally:
            prompt.INSTRUCTIONS = instructions
        return {**answer, "found": [(passage.id, passage.score, passage.rank) for passage in found.passages]}


async def _whole(pipeline: RagPipeline, request: RagRequest) -> Json:
    completion = await pipeline.complete(await pipeline.prepare(request))
    return _essence(completion["choices"][0]["message"]["content"], completion["rag"])


async def _streamed(pipeline: RagPipeline, request: RagRequest) -> Json:
    content, rag = "", {}
    async for chunk in pipeline.stream(await pipeline.prepare(request)):
        rag |= chunk.get("rag", {})
        content += "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
    return _essence(content, rag)


def _essence(content: str, rag: Json) -> Json:
    return {"content": content, **{name: value for name, value in rag.items() if name not in ("timings_ms", "cached")}}


@contextlib.contextmanager
def stores_of(folder: Path) -> Iterator[tuple[list[Settings], factory.Store, Any]]:
    """Give settings of two servers that differ in what no request sees, and their store and indexes."""
    environment = {"RAG_ENGINE__BASE_URL": "http://127.0.0.1:1/v1", "RAG_INDEX__FAISS": "flat"}
    tokens = ("60", "140")
    settings = [load_settings({**environment, "RAG_PROMPT__ANSWER_TOKENS": one}, data_dir=folder) for one in tokens]
    store = factory.open_store(settings[0])
    try:
        yield settings, store, factory.open_indexes(settings[0], store)
    finally:
        store.database.close()
