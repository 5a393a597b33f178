"""Measures the server's own speed and memory, beside the embedding model and the engine in the same run (`make bench`).

python -m eval.bench_server
"""

import argparse
import asyncio
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import psutil

from rag_server import factory
from rag_server.config import load_settings
from rag_server.protocols import Embedder, Json
from rag_server.types import Chunk, Document, EmbeddedDocument

SEED = 7
NUM_WORDS = 5000
WORDS_PER_CHUNK = 100
START_TIMEOUT_S = 300.0
PASSIVE_WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    num_chunks: int = 5000
    num_queries: int = 100


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    name: str
    value: float
    unit: str
    target: float | None = None


def fill_store(data_dir: Path, embedder: Embedder, num_chunks: int) -> None:
    """Store so many one-chunk documents of random words with random unit vectors in the collection `bench`."""
    store = factory.open_store(load_settings({}, data_dir=data_dir))
    vector_store = store.vector_stores.get_or_create("bench", embedding_model=embedder.model_id, dimension=embedder.dimension)
    file = store.files.begin(vector_store, "/bench", filename="bench", num_bytes=0)
    texts = _texts(num_chunks)
    vectors = np.random.default_rng(SEED).standard_normal((num_chunks, embedder.dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    documents = [
        EmbeddedDocument(Document(f"d{row}", "", text), str(row), (Chunk(0, len(text)),), vectors[row : row + 1])
        for row, text in enumerate(texts)
    ]
    store.files.put_documents(vector_store, file, documents)
    store.files.finish(vector_store, file, fingerprint="bench", keep={f"d{row}" for row in range(num_chunks)})
    store.database.close()


@contextmanager
def child(arguments: Sequence[str], url: str, environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """Run a command of rag-server until the end of the context; give it and the seconds until its /health answered."""
    command = [sys.executable, "-m", "rag_server.cli", *arguments]
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not _is_up(f"{url}/health"):
            if process.poll() is not None or time.perf_counter() - started > START_TIMEOUT_S:
                raise RuntimeError(f"{' '.join(arguments)} did not come up")
            time.sleep(0.02)
        yield process, time.perf_counter() - started
    finally:
        process.terminate()
        process.wait(30)


async def measure_search(url: str, embedder: Embedder, queries: Sequence[str]) -> list[Figure]:
    """Return what a search over HTTP takes beyond embedding its query; each query is searched and embedded in turn."""
    total_ms, embedding_ms, again_ms = [], [], []
    async with httpx.AsyncClient(base_url=url, timeout=60.0, trust_env=False) as client:
        for query in ["warm up one", "warm up two", *queries]:
            started = time.perf_counter()
            response = await client.post("/v1/vector_stores/bench/search", json={"query": query})
            searched = time.perf_counter()
            embedder.embed_queries([query])
            embedded = time.perf_counter()
            (await client.post("/v1/vector_stores/bench/search", json={"query": query})).raise_for_status()
            response.raise_for_status()
            total_ms.append((searched - started) * 1000)
            embedding_ms.append((embedded - searched) * 1000)
            again_ms.append((time.perf_counter() - embedded) * 1000)
    beyond = [total - embedding for total, embedding in zip(total_ms[2:], embedding_ms[2:], strict=True)]
    return [
        Figure("search over HTTP, median", statistics.median(total_ms[2:]), "ms"),
        Figure("embedding its query, median", statistics.median(embedding_ms[2:]), "ms"),
        Figure("search beyond the embedding, median", statistics.median(beyond), "ms", 15.0),
        Figure("the same search again (cached), median", statistics.median(again_ms[2:]), "ms"),
    ]


async def measure_chat(url: str, engine_url: str, queries: Sequence[str]) -> list[Figure]:
    """Return what a chat completion takes beyond retrieval and the bare engine; both are asked in turn."""
    added_ms = []
    async with httpx.AsyncClient(timeout=60.0, trust_env=False) as client:
        for query in ["warm up three", *(f"what about {query}" for query in queries)]:
            messages = [{"role": "user", "content": query}]
            answer, rag_ms = await _timed(client, f"{url}/v1/chat/completions", {"model": "rag/bench", "messages": messages})
            prompt = [{"role": "user", "content": " ".join(passage["text"] for passage in answer["rag"]["passages"])}]
            _, engine_ms = await _timed(client, f"{engine_url}/chat/completions", {"model": "scripted", "messages": prompt})
            added_ms.append(rag_ms - answer["rag"]["timings_ms"]["retrieve"] - engine_ms)
    return [Figure("chat completion beyond retrieval and engine, median", statistics.median(added_ms[1:]), "ms", 10.0)]


def run_bench(size: Size) -> list[Figure]:
    """Return every figure."""
    embedder = factory.load_embedder(load_settings({}))
    queries = _queries(size.num_queries)
    with tempfile.TemporaryDirectory() as folder:
        fill_store(Path(folder), embedder, size.num_chunks)
        engine_port, port = _free_port(), _free_port()
        engine_url, url = f"http://127.0.0.1:{engine_port}", f"http://127.0.0.1:{port}"
        inherited = {name: value for name, value in os.environ.items() if name not in PASSIVE_WAITING}
        environment = {**inherited, "RAG_DATA_DIR": folder, "RAG_ENGINE__BASE_URL": f"{engine_url}/v1"}
        with (
            child(["scripted-engine", "--port", str(engine_port), "--answer", "Yes."], engine_url, inherited),
            child(["serve", "--port", str(port)], url, environment) as (server, start_s),
        ):
            figures = [Figure("start to /health", start_s, "s", 5.0)]
            figures += asyncio.run(measure_search(url, embedder, queries))
            figures += asyncio.run(measure_chat(url, f"{engine_url}/v1", queries))
            memory_gb = psutil.Process(server.pid).memory_info().rss / 1e9
            return [*figures, Figure("server's resident memory", memory_gb, "GB", 1.5)]


def print_table(size: Size, figures: Sequence[Figure]) -> None:
    """Print the figures beside their targets."""
    print(f"{size.num_chunks} chunks, {size.num_queries} queries, {os.cpu_count()} cores\n")
    print(f"{'figure':<54}{'measured':>12}{'target':>14}")
    for figure in figures:
        target = "" if figure.target is None else f"< {figure.target:g} {figure.unit}"
        print(f"{figure.name:<54}{figure.value:>9.2f} {figure.unit:<2}{target:>14}")


async def _timed(client: httpx.AsyncClient, url: str, body: Json) -> tuple[Json, float]:
    started = time.perf_counter()
    response = await client.post(url, json=body)
    elapsed_ms = (time.perf_counter() - started) * 1000
    return response.raise_for_status().json(), elapsed_ms


def _texts(number: int) -> list[str]:
    chooser = random.Random(SEED)
    return [" ".join(f"word{chooser.randrange(NUM_WORDS)}" for _ in range(WORDS_PER_CHUNK)) for _ in range(number)]


def _queries(number: int) -> list[str]:
    chooser = random.Random(SEED + 1)
    return [" ".join(f"word{chooser.randrange(NUM_WORDS)}" for _ in range(8)) for _ in range(number)]


def _is_up(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=Size().num_chunks, help="chunks in the collection")
    parser.add_argument("--queries", type=int, default=Size().num_queries, help="queries per measurement")
    arguments = parser.parse_args()
    # The model that is measured beside the server must not keep a core busy waiting while the server works.
    os.environ.update(PASSIVE_WAITING)
    size = Size(arguments.chunks, arguments.queries)
    print_table(size, run_bench(size))


if __name__ == "__main__":
    main()
