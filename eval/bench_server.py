"""Measures the server's own speed and memory, beside the embedding model and the engine in the same run (`make bench`).

python -m eval.bench_server
"""

import argparse
import asyncio
import os
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import psutil

from eval.bench.tools import Figure, child, free_port, inherited_environment, print_figures, time_searches, wait_passively
from rag_server import factory
from rag_server.config import load_settings
from rag_server.protocols import Embedder, Json
from rag_server.types import Access, Chunk, Document, EmbeddedDocument, NewFile

SEED = 7
NUM_WORDS = 5000
WORDS_PER_CHUNK = 100


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    num_chunks: int = 5000
    num_queries: int = 100


def fill_store(data_dir: Path, embedder: Embedder, num_chunks: int) -> None:
    """Store so many one-chunk documents of random words with random unit vectors in the collection `bench`."""
    store = factory.open_store(load_settings({}, data_dir=data_dir))
    vector_store = store.vector_stores.get_or_create("bench", Access(), embedder)
    file = store.files.begin(vector_store, NewFile("/bench", "bench", 0))
    texts = _texts(num_chunks)
    vectors = np.random.default_rng(SEED).standard_normal((num_chunks, embedder.dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    documents = [
        EmbeddedDocument(Document(f"d{row}", "", text), str(row), (Chunk(0, len(text)),), vectors[row : row + 1])
        for row, text in enumerate(texts)
    ]
    store.documents.put(vector_store, file, documents, bytes_read=0)
    keep = {f"d{row}" for row in range(num_chunks)}
    store.documents.finish(vector_store, file, fingerprint="bench", keep=keep, error=None)
    store.database.close()


async def measure_search(url: str, embedder: Embedder, queries: Sequence[str]) -> list[Figure]:
    """Return what a search over HTTP takes beyond embedding its query; each query is searched and embedded in turn."""
    async with httpx.AsyncClient(base_url=url, timeout=60.0, trust_env=False) as client:
        times = await time_searches(client, embedder, queries)
    return [
        Figure("search over HTTP, median", statistics.median(times.total), "ms"),
        Figure("embedding its query, median", statistics.median(times.embedding), "ms"),
        Figure("search beyond the embedding, median", statistics.median(times.beyond), "ms", 15.0),
        Figure("the same search again (cached), median", statistics.median(times.again), "ms"),
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
        engine_port, port = free_port(), free_port()
        engine_url, url = f"http://127.0.0.1:{engine_port}", f"http://127.0.0.1:{port}"
        inherited = inherited_environment()
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
    print_figures(figures)


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


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=Size().num_chunks, help="chunks in the collection")
    parser.add_argument("--queries", type=int, default=Size().num_queries, help="queries per measurement")
    arguments = parser.parse_args()
    wait_passively()
    size = Size(arguments.chunks, arguments.queries)
    print_table(size, run_bench(size))


if __name__ == "__main__":
    main()
