"""What a question costs between its arrival and the prompt: nothing is read, embedded or counted twice."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rag_server import factory
from rag_server.observability import StageTimer
from rag_server.pipeline import RagOptions, RagPipeline, RagRequest
from rag_server.store.database import Database
from rag_server.types import Access, ChunkIds, Cursor, Hit, Query, VectorStore
from rerankers.first_stage import FirstStageOrder
from retrievers.dense import DenseRetriever
from retrievers.hybrid import HybridRetriever
from retrievers.lexical import LexicalRetriever
from tests.contracts.cache_world import OF_TWO_YEARS, DigestEngine, HashEmbedder, Memory, World, stores_of

ANN = Access("a", frozenset(["ann"]))


class CountingEmbedder(HashEmbedder):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def embed_queries(self, texts: Sequence[str]) -> Any:
        self.texts += texts
        return super().embed_queries(texts)


class CountingEngine(DigestEngine):
    def __init__(self) -> None:
        super().__init__()
        self.counts = 0

    async def context_length(self, model: str) -> int:
        return 4096

    async def count_tokens(self, model: str, messages: Sequence[Any]) -> int:
        self.counts += 1
        return await super().count_tokens(model, messages)


@dataclass
class Flow:
    """A query flow over a small world, with counts of what it does."""

    pipeline: RagPipeline
    world: World
    embedder: CountingEmbedder
    engine: CountingEngine
    reads: list[str] = field(default_factory=list)

    async def ask(self, question: str, *places: int, restricted: bool) -> tuple[int, list[str], int]:
        """Prepare and complete an answer; return the transactions, the texts that were embedded and the prompts counted."""
        self.reads.clear()
        self.embedder.texts.clear()
        self.engine.counts = 0
        body = {"messages": [{"role": "user", "content": question}], "temperature": 0}
        stores = tuple(self.world.stores[place] for place in places)
        access, filter_ = (ANN, OF_TWO_YEARS) if restricted else (Access("a"), None)
        options = RagOptions("hybrid", 6, "none", "none", 4)
        request = RagRequest(body, "rag/x", None, stores, options, str, access, filter_)
        await self.pipeline.complete(await self.pipeline.prepare(request))
        return len(self.reads), list(self.embedder.texts), self.engine.counts


@pytest.fixture
def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flow]:
    embedder, engine = CountingEmbedder(), CountingEngine()
    with stores_of(tmp_path) as (settings, store, indexes):
        pipeline = factory.build_pipeline(
            settings[0],
            store=store,
            embedders=embedder,
            indexes=indexes,
            engine=engine,
            cache=Memory(),
            rerankers={"none": FirstStageOrder()},
        )
        flow = Flow(pipeline, World(store, indexes, None), embedder, engine)
        read = Database.read

        def counted(database: Database) -> Any:
            flow.reads.append(threading.current_thread().name)
            return read(database)

        monkeypatch.setattr(Database, "read", counted)
        yield flow


async def test_nothing_is_done_twice_for_a_question(flow: Flow) -> None:
    """Read once each: the state of the log, what may be found, the passages. One text is embedded, one prompt counted."""
    await flow.ask("opens the indexes", 0, 1, restricted=False)

    assert await flow.ask("mast?", 0, restricted=False) == (2, ["mast?"], 1)
    assert await flow.ask("keel?", 0, restricted=True) == (3, ["keel?"], 1)
    # The selection is known from the question before.
    assert await flow.ask("sail?", 0, restricted=True) == (2, ["sail?"], 1)
    # The state and the selection of the second store are its own; the passages of both are read together.
    assert await flow.ask("rope?", 0, 1, restricted=True) == (4, ["rope?"], 1)


async def test_remembered_answer_reads_state_and_passages(flow: Flow) -> None:
    """Of the same request again the answer is known; only whether it is still right, and its passages, are read."""
    await flow.ask("mast?", 0, restricted=True)

    assert await flow.ask("mast?", 0, restricted=True) == (2, [], 0)


async def test_what_changes_is_found_at_once(flow: Flow) -> None:
    """A file that came after a question is searched by the next one, whose state of the log is read anew."""
    query = Query("anything at all", (flow.world.stores[0],), Access("a"))
    options = RagOptions("dense", 100, "none", "none", 100)

    async def found() -> int:
        return len((await flow.pipeline.find_passages(query, options, StageTimer(), limit=100)).passages)

    before = await found()
    flow.world.add(0, 3, None)

    assert await found() == before + 1


async def test_dense_and_lexical_search_run_at_the_same_time() -> None:
    """Each of the two searches waits, in a thread of its own, until the other one runs as well."""
    both = threading.Barrier(2, timeout=30)

    class Index:
        def search(self, asked: object, k: int, *, allowed: ChunkIds | None) -> list[Hit]:
            both.wait()
            return [Hit(1, 1.0)]

        def search_each(self, asked: Sequence[object], k: int, *, allowed: ChunkIds | None) -> list[list[Hit]]:
            return [self.search(each, k, allowed=allowed) for each in asked]

    class Indexes:
        def vectors(self, store: VectorStore, *, head: Cursor | None) -> Index:
            return Index()

        lexical = vectors

    class QueryVectors:
        async def vector(self, store: VectorStore, text: str) -> str:
            return text

    class Everything:
        def chunk_ids(self, store: VectorStore, query: Query) -> None:
            return None

    parts = {
        "dense": DenseRetriever(QueryVectors(), Indexes(), Everything()),
        "lexical": LexicalRetriever(Indexes(), Everything()),
    }
    store = VectorStore("vs_1", "", "docs", 0, 1, "m", None, 4)

    assert [hit.chunk_id for hit in await HybridRetriever(parts).retrieve(Query("q", (store,)), 2)] == [1]
