"""Shows what one question takes from its arrival to the answer's first token, part by part, against the scripted engine.

python -m eval.profile_query --chunks 10000
"""

import argparse
import contextlib
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from eval.bench.corpus import Corpus, fill
from eval.bench.tools import child, free_port, inherited_environment
from eval.bench.watching import Interval, Watch, Watched, total_s
from eval.command import run_command
from eval.report import Cell, Table, as_text
from rag_server import factory
from rag_server.api.app import create_app
from rag_server.config import Settings, load_settings
from rag_server.errors import RagServerError
from rag_server.observability import configure_logging
from rag_server.protocols import Embedders
from rag_server.services import Services

WORDS_PER_QUESTION = 8
POLL_S = 0.02
READY_TIMEOUT_S = 120.0
# In the order of a question.
KEY, VECTOR_STORE, HEADS, CACHE_READ = "who asks", "vector store", "state of the log", "cache: read"
EMBEDDING, VECTORS, NEAREST, WORDS, MATCHES = (
    "query's vector",
    "FAISS: up to date",
    "FAISS: search",
    "BM25: up to date",
    "BM25: search",
)
SELECTED, CACHE_WRITE, PASSAGES = "permissions and filter", "cache: write", "passages"
MODELS, COUNT, FIRST_TOKEN = "engine: models", "engine: count tokens", "engine: first token"
PARTS = (
    KEY,
    VECTOR_STORE,
    HEADS,
    CACHE_READ,
    EMBEDDING,
    VECTORS,
    NEAREST,
    WORDS,
    MATCHES,
    SELECTED,
    CACHE_WRITE,
    PASSAGES,
    MODELS,
    COUNT,
    FIRST_TOKEN,
)
REST = "between them: HTTP, JSON, threads, prompt"
TOTAL = "arrival to first token"
COLUMNS = ("part", "calls", "cold, ms", "warm, ms", "share of warm", "asked again, ms")


@dataclass(frozen=True, slots=True)
class Profile:
    """One question: how long it took, and when which part worked."""

    total_ms: float
    intervals: tuple[Interval, ...]

    def calls(self, part: str) -> int:
        """Return how often the part was called."""
        return sum(one.name == part for one in self.intervals)

    def part_ms(self, part: str) -> float:
        """Return how long the part worked; twice at once counts once."""
        return total_s([one for one in self.intervals if one.name == part]) * 1000

    def rest_ms(self) -> float:
        """Return how long no part worked."""
        return self.total_ms - total_s(self.intervals) * 1000


class WatchedServices(Services):
    """The parts of a server, each watched."""

    def __init__(self, settings: Settings, watch: Watch) -> None:
        super().__init__(settings)
        self._watch = watch
        store: Any = self.store
        self.store = replace(
            store,
            keys=Watched(store.keys, watch, {"find": KEY, "any_unrevoked": KEY}),
            vector_stores=Watched(store.vector_stores, watch, {"use": VECTOR_STORE}),
            log=Watched(store.log, watch, {"head": HEADS}),
            selection=Watched(store.selection, watch, {"chunk_ids": SELECTED}),
            passages=Watched(store.passages, watch, {"of_each": PASSAGES}),
        )
        searches = {"vectors": {"search_each": NEAREST}, "lexical": {"search": MATCHES}}
        # What they read of the log is a part of their own.
        indexes: Any = Watched(self.indexes, watch, {"vectors": VECTORS, "lexical": WORDS}, searches)
        self.indexes = indexes
        cache: Any = Watched(self.cache, watch, {"get": CACHE_READ, "set": CACHE_WRITE})
        self.cache = cache
        engine: Any = Watched(
            self.engine,
            watch,
            {"default_model": MODELS, "context_length": MODELS, "count_tokens": COUNT, "stream_chat": FIRST_TOKEN},
        )
        self.engine = engine

    async def embedders(self) -> Embedders:
        """Return the embedding models, watched."""
        watched: Any = Watched(await super().embedders(), self._watch, {}, {"of": {"embed_queries": EMBEDDING}})
        embedders: Embedders = watched
        return embedders


@contextlib.contextmanager
def serving(settings: Settings, watch: Watch) -> Iterator[str]:
    """Serve in a thread of this process until the end of the context; give the address once questions are answered."""
    services = WatchedServices(settings, watch)
    port = free_port()
    config = uvicorn.Config(create_app(services), host="127.0.0.1", port=port, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until(lambda: server.started and httpx.get(f"{url}/ready", trust_env=False).is_success)
        _wait_until(lambda: services.cache_child is None or services.cache_child.url is not None)
        yield url
    finally:
        server.should_exit = True
        thread.join()


def profile(client: httpx.Client, watch: Watch, question: str) -> Profile:
    """Ask the collection `bench` a question and read its answer to the end.

    Raises:
        RagServerError: The answer is an error, or has no token.
    """
    body = {"model": "rag/bench", "stream": True, "messages": [{"role": "user", "content": question}]}
    first_s = None
    started_s = time.perf_counter()
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        if not response.is_success:
            raise RagServerError(f"the question was refused: {response.read().decode()}")
        for line in response.iter_lines():
            if first_s is None and '"content":' in line:
                first_s = time.perf_counter()
    if first_s is None:
        raise RagServerError("the answer has no token")
    return Profile((first_s - started_s) * 1000, tuple(watch.between(started_s, first_s)))


def profile_table(cold: Profile, warm: Sequence[Profile], again: Sequence[Profile]) -> Table:
    """Return a row for each part with the milliseconds of the first question, and the medians of the others."""
    total_ms = statistics.median(one.total_ms for one in warm)

    def row(name: str, of: Callable[[Profile], float], calls: float | None) -> tuple[Cell, ...]:
        warm_ms, again_ms = (statistics.median(map(of, profiles)) for profiles in (warm, again))
        shown = [f"{value:.2f}" for value in (of(cold), warm_ms)]
        return (name, calls, *shown, f"{warm_ms / total_ms:.0%}", f"{again_ms:.2f}")

    rows = [row(part, _part_ms(part), round(statistics.median(one.calls(part) for one in warm))) for part in PARTS]
    rows.append(row(REST, Profile.rest_ms, None))
    rows.append(row(TOTAL, lambda one: one.total_ms, None))
    return Table("One question; parts of which some work at the same time", COLUMNS, tuple(rows))


def measure(num_chunks: int, num_questions: int) -> Table:
    """Return the table of questions to a collection of so many chunks."""
    embedder = factory.load_embedder(load_settings({}))
    questions = Corpus(1, seed=10).texts(num_questions + 1, words=WORDS_PER_QUESTION)
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), embedder, num_chunks)
        port, watch = free_port(), Watch()
        engine = ["scripted-engine", "--port", str(port), "--answer", "Yes."]
        with child(engine, f"http://127.0.0.1:{port}", inherited_environment()):
            settings = load_settings({}, data_dir=Path(folder), engine={"base_url": f"http://127.0.0.1:{port}/v1"})
            with serving(settings, watch) as url, httpx.Client(base_url=url, timeout=60.0, trust_env=False) as client:
                # Of a client, not of the server.
                client.get("/health").raise_for_status()
                cold, *warm = [profile(client, watch, question) for question in questions]
                again = [profile(client, watch, question) for question in questions[1:]]
    return profile_table(cold, warm, again)


def _part_ms(part: str) -> Callable[[Profile], float]:
    return lambda one: one.part_ms(part)


def _wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not is_so():
        if time.monotonic() > deadline:
            raise RagServerError("the server does not come up")
        time.sleep(POLL_S)


def run(given: argparse.Namespace, command: str) -> None:
    """Print the table below the command that makes it."""
    # A line for each question is nobody's profile.
    configure_logging(level="warning")
    print(f"{command}\n")
    print(as_text(measure(given.chunks, given.questions)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=10_000, help="chunks in the collection")
    parser.add_argument("--questions", type=int, default=100, help="questions after the first")
    return run_command("profile_query", parser, run, arguments)


if __name__ == "__main__":
    sys.exit(main())
