"""Measures indexing and the indexes: speed beside bare libraries, searches, restart and memory (`make bench`).

python -m eval.bench_index --chunks 100000
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import psutil

from eval.bench.bare_limit import BareLimit
from eval.bench.corpus import Corpus, fill, in_faiss, prose
from eval.bench.index_memory import measure_memory
from eval.bench.tools import (
    Figure,
    RecordingEmbedder,
    child,
    free_port,
    inherited_environment,
    percentile,
    print_figures,
    time_searches,
    wait_passively,
)
from eval.bench.uploads import measure_awaited_uploads, measure_interference, measure_memory_growth
from rag_server import factory
from rag_server.commands.indexing import building_ingest
from rag_server.config import load_settings
from rag_server.jobs.ingest import Source
from rag_server.jobs.worker import NoProgress
from rag_server.protocols import Embedder
from rag_server.types import Access, NewFile, Vectors

SENTENCES_PER_DOCUMENT = 40
SENTENCES_PER_ROW = 2
RECALL_AT = 10
READY_POLL_S = 0.02
READY_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    num_chunks: int = 100_000
    num_queries: int = 200
    # Portions of documents that are indexed, and embedded by bare libraries, in turn.
    num_portions: int = 8
    documents_per_portion: int = 40
    rows_per_portion: int = 400
    stream_s: float = 30.0
    num_uploads: int = 500
    # Whose time until a search finds them is measured.
    num_awaited_uploads: int = 20


def measure_indexing(embedder: Embedder, size: Size) -> list[Figure]:
    """Return the speed of indexing two kinds of corpora beside that of bare libraries on the same passages."""
    files = partial(_sources, number=size.documents_per_portion)
    rows = partial(_rows, number=size.rows_per_portion)
    bare = BareLimit()
    return [
        *_measure_indexing("files of several chunks", files, embedder, bare, size.num_portions),
        *_measure_indexing("rows of one short chunk", rows, embedder, bare, size.num_portions),
    ]


def _measure_indexing(
    what: str, make: Callable[[Path, str], list[Source]], embedder: Embedder, bare: BareLimit, num_portions: int
) -> list[Figure]:
    """Return the speeds of indexing, of the embedding model alone, and of the bare limit; portions of them take turns."""
    seconds: dict[str, list[float]] = {"indexing": [], "alone": [], "bare": []}
    num_chunks = 0
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings({}, data_dir=Path(folder) / "data")
        store = factory.open_store(settings)
        vector_store = store.vector_stores.get_or_create("bench", Access(), embedder)
        indexes = factory.open_indexes(settings, store)
        recording = RecordingEmbedder(embedder)
        with building_ingest(settings, store) as building:
            ingest = building(recording)
            # What is started once, such as the parsing process and the indexes, is no part of the speed.
            ingest.run(vector_store, make(Path(folder), "warm up")[:1], NoProgress())
            indexes.refresh(vector_store)
            bare.index(recording.passages[:8])
            for number in range(num_portions):
                sources = make(Path(folder), str(number))
                recording.passages.clear()
                started = time.perf_counter()
                num_chunks += ingest.run(vector_store, sources, NoProgress()).num_chunks
                indexes.refresh(vector_store)
                seconds["indexing"].append(time.perf_counter() - started)
                by_length = sorted(recording.passages, key=len)
                seconds["alone"].append(_seconds(partial(embedder.embed_passages, by_length)))
                seconds["bare"].append(_seconds(partial(bare.index, list(recording.passages))))
        store.database.close()
    of_model, of_bare = (
        statistics.median(other / ours for other, ours in zip(seconds[name], seconds["indexing"], strict=True))
        for name in ("alone", "bare")
    )
    return [
        Figure(f"indexing {what}, chunks per second", num_chunks / sum(seconds["indexing"]), "/s"),
        Figure("the embedding model alone, the same chunks", num_chunks / sum(seconds["alone"]), "/s"),
        Figure("bare sentence-transformers and FAISS, the same", num_chunks / sum(seconds["bare"]), "/s"),
        # Of the portions, since all are a tenth faster or slower from one to the next on a shared machine.
        Figure("indexing relative to the embedding model alone", of_model, "x"),
        Figure(f"indexing {what}, relative to bare", of_bare, "x", 0.9, at_least=True),
    ]


def measure_recall(data_dir: Path, vectors: Vectors, size: Size) -> list[Figure]:
    """Return how many of the nearest vectors the index of the collection `bench` finds."""
    settings = load_settings({}, data_dir=data_dir)
    store = factory.open_store(settings)
    vector_store = store.vector_stores.get("bench", Access())
    index = in_faiss(factory.open_indexes(settings, store).vectors(vector_store))
    found, took_ms = [], []
    for query in Corpus(vectors.shape[1], seed=9).vectors(size.num_queries):
        # Chunk ids are given out in the order of the rows, from 1.
        nearest = {int(row) + 1 for row in np.argsort(-(vectors @ query))[:RECALL_AT]}
        started = time.perf_counter()
        hits = index.search(query, RECALL_AT)
        took_ms.append((time.perf_counter() - started) * 1000)
        found.append(len(nearest & {hit.chunk_id for hit in hits}) / RECALL_AT)
    store.database.close()
    return [
        Figure(f"dense search ({index.kind}) alone, median", statistics.median(took_ms), "ms"),
        Figure(f"dense recall@{RECALL_AT} ({index.kind})", statistics.mean(found), "", 0.97, at_least=True),
    ]


def measure_server(data_dir: Path, embedder: Embedder, size: Size) -> list[Figure]:
    """Return what is measured on a running server with the collection `bench`."""
    engine_port, port = free_port(), free_port()
    engine_url, url = f"http://127.0.0.1:{engine_port}", f"http://127.0.0.1:{port}"
    inherited = inherited_environment()
    environment = {**inherited, "RAG_DATA_DIR": str(data_dir), "RAG_ENGINE__BASE_URL": f"{engine_url}/v1"}
    with child(["scripted-engine", "--port", str(engine_port), "--answer", "Yes."], engine_url, inherited):
        started = time.perf_counter()
        with child(["serve", "--port", str(port)], url, environment) as (server, _):
            _wait_for(url, "POST", "/v1/vector_stores/bench/search", {"query": "w1 w20 w300"})
            restart = Figure("restart to the first answered search", time.perf_counter() - started, "s", 10.0)
            _wait_for(url, "GET", "/ready")
            memory_mb = psutil.Process(server.pid).memory_info().rss / 1e6
            figures = asyncio.run(_measure_running(url, embedder, psutil.Process(server.pid), size))
    return [restart, Figure("server's resident memory once ready", memory_mb, "MB"), *figures]


async def _measure_running(url: str, embedder: Embedder, server: psutil.Process, size: Size) -> list[Figure]:
    queries = Corpus(1, seed=10).texts(size.num_queries, words=6)
    async with httpx.AsyncClient(base_url=url, timeout=60.0, trust_env=False) as client:
        times = await time_searches(client, embedder, queries)
        return [
            Figure("search over HTTP, median", statistics.median(times.total), "ms"),
            Figure("embedding its query, median", statistics.median(times.embedding), "ms"),
            Figure("search beyond the embedding, median", statistics.median(times.beyond), "ms"),
            Figure("search beyond the embedding, p95", percentile(times.beyond, 95), "ms", 20.0),
            *await measure_awaited_uploads(client, size.num_awaited_uploads),
            *await measure_interference(client, size.stream_s),
            *await measure_memory_growth(client, server, size.num_uploads),
        ]


def run_bench(size: Size, embedder: Embedder) -> list[Figure]:
    """Return every figure."""
    figures = measure_indexing(embedder, size)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        vectors = fill(Path(folder), embedder, size.num_chunks)
        figures.append(Figure("filling the store and building its indexes", time.perf_counter() - started, "s"))
        snapshot = next((Path(folder) / "indexes").glob("*/vectors-*"))
        figures += measure_memory(snapshot, embedder.dimension, size.num_chunks)
        figures += measure_recall(Path(folder), vectors, size)
        return figures + measure_server(Path(folder), embedder, size)


def _sources(folder: Path, name: str, number: int) -> list[Source]:
    """Write text files of a few chunks each."""
    chooser = random.Random(name)
    sources = []
    for index in range(number):
        path = folder / f"{name}-{index}.txt"
        num_bytes = path.write_text(prose(chooser, SENTENCES_PER_DOCUMENT))
        sources.append(Source(path, NewFile(str(path), path.name, num_bytes)))
    return sources


def _rows(folder: Path, name: str, number: int) -> list[Source]:
    """Write one .jsonl file, whose rows are documents of one chunk."""
    chooser = random.Random(name)
    path = folder / f"{name}.jsonl"
    lines = (json.dumps({"_id": f"{name}-{row}", "text": prose(chooser, SENTENCES_PER_ROW)}) for row in range(number))
    num_bytes = path.write_text("\n".join(lines))
    return [Source(path, NewFile(str(path), path.name, num_bytes))]


def _seconds(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def _wait_for(url: str, method: str, path: str, body: object = None) -> None:
    """Ask until the answer is a success."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    for attempt in itertools.count():
        response = httpx.request(method, f"{url}{path}", json=body, timeout=READY_TIMEOUT_S, trust_env=False)
        if response.is_success:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"{path} still failed after {attempt + 1} attempts: {response.text}")
        time.sleep(READY_POLL_S)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=Size().num_chunks, help="chunks in the collection")
    parser.add_argument("--queries", type=int, default=Size().num_queries, help="queries per measurement")
    parser.add_argument("--stream", type=float, default=Size().stream_s, help="seconds of each stream of searches")
    parser.add_argument("--uploads", type=int, default=Size().num_uploads, help="small uploads, one after the other")
    arguments = parser.parse_args()
    wait_passively()
    size = Size(arguments.chunks, arguments.queries, stream_s=arguments.stream, num_uploads=arguments.uploads)
    print(f"{size.num_chunks} chunks, {size.num_queries} queries, {os.cpu_count()} cores\n")
    print_figures(run_bench(size, factory.load_embedder(load_settings({}))))


if __name__ == "__main__":
    main()
