"""Measures a server that is searched while its worker indexes uploads, and its memory over many uploads."""

import asyncio
import contextlib
import random
import statistics
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import psutil

from eval.bench.corpus import Corpus, prose
from eval.bench.tools import Figure, percentile

SEARCHES_PER_S = 10
# Always so many uploads wait while searches are timed; each takes the worker about a second.
QUEUED = 3
SENTENCES_PER_UPLOAD = 200
SENTENCES_PER_SMALL_UPLOAD = 4
POLL_S = 0.2
# Between searches for what was just uploaded: often enough to see it soon, and rarely enough to leave it the processor.
LOOK_S = 0.02
QUERY_CHARACTERS = 100
DRAIN_TIMEOUT_S = 900.0
SEARCHES_PER_UPLOADS = 10
BYTES_PER_MB = 1e6


async def measure_awaited_uploads(client: httpx.AsyncClient, number: int) -> list[Figure]:
    """Return how long it takes from sending a small file until a search finds it: the first one, and those after it."""
    chooser = random.Random(14)
    (await client.post("/v1/vector_stores", json={"name": "awaited"})).raise_for_status()
    # The first starts the process that indexes.
    seconds = [await _awaited(client, prose(chooser, SENTENCES_PER_SMALL_UPLOAD)) for _ in range(number + 1)]
    return [
        Figure("upload to found by a search, the first", seconds[0], "s"),
        Figure("upload to found by a search, median", 1000 * statistics.median(seconds[1:]), "ms"),
    ]


async def _awaited(client: httpx.AsyncClient, text: str) -> float:
    started = time.perf_counter()
    await _upload(client, "awaited", text)
    while True:
        body = {"query": text[:QUERY_CHARACTERS]}
        response = await client.post("/v1/vector_stores/awaited/search", json=body)
        results = response.raise_for_status().json()["data"]
        if any(text in part["text"] for result in results for part in result["content"]):
            return time.perf_counter() - started
        if time.perf_counter() - started > DRAIN_TIMEOUT_S:
            raise RuntimeError("an upload is not found")
        await asyncio.sleep(LOOK_S)


async def measure_interference(client: httpx.AsyncClient, seconds: float) -> list[Figure]:
    """Return how much slower searches are while uploads are indexed than before."""
    queries = iter(Corpus(1, seed=11).texts(round(3 * seconds * SEARCHES_PER_S), words=6))
    idle = await _stream(client, queries, seconds)
    async with _keeping_the_worker_busy(client):
        busy = await _stream(client, queries, seconds)
    await _drained(client, "bench")
    idle_p95, busy_p95 = percentile(idle, 95), percentile(busy, 95)
    return [
        Figure("search in a steady stream, median", statistics.median(idle), "ms"),
        Figure("search in a steady stream, p95", idle_p95, "ms"),
        Figure("the same while uploads are indexed, median", statistics.median(busy), "ms"),
        Figure("the same while uploads are indexed, p95", busy_p95, "ms"),
        Figure("p95 while uploads are indexed relative to before", busy_p95 / idle_p95, "x", 3.0),
    ]


async def measure_memory_growth(client: httpx.AsyncClient, server: psutil.Process, num_uploads: int) -> list[Figure]:
    """Return how the memory of the server and its worker grows between a fifth of the small uploads and all of them."""
    (await client.post("/v1/vector_stores", json={"name": "uploads"})).raise_for_status()
    chooser = random.Random(13)
    early: tuple[float, float] | None = None
    for number in range(1, num_uploads + 1):
        await _upload(client, "uploads", prose(chooser, SENTENCES_PER_SMALL_UPLOAD))
        if number % SEARCHES_PER_UPLOADS == 0:
            await _search(client, "uploads", prose(chooser, 1))
        if number == max(1, num_uploads // 5):
            await _drained(client, "uploads")
            early = _memory_mb(server)
    await _drained(client, "uploads")
    late = _memory_mb(server)
    first, fifth = early or late, max(1, num_uploads // 5)
    return [
        Figure(f"server's resident memory after {num_uploads} uploads", late[0], "MB"),
        Figure(f"worker's resident memory after {num_uploads} uploads", late[1], "MB"),
        Figure(f"server's growth from {fifth} uploads to {num_uploads}", late[0] - first[0], "MB", 50.0),
        Figure(f"worker's growth from {fifth} uploads to {num_uploads}", late[1] - first[1], "MB", 50.0),
    ]


async def _stream(client: httpx.AsyncClient, queries: Iterator[str], seconds: float) -> list[float]:
    """Start a search every so often, whether or not those before have ended; return the milliseconds of each."""
    started, tasks = time.monotonic(), []
    for number in range(round(seconds * SEARCHES_PER_S)):
        await asyncio.sleep(max(0.0, started + number / SEARCHES_PER_S - time.monotonic()))
        tasks.append(asyncio.create_task(_search(client, "bench", next(queries))))
    return list(await asyncio.gather(*tasks))


async def _search(client: httpx.AsyncClient, collection: str, query: str) -> float:
    started = time.perf_counter()
    (await client.post(f"/v1/vector_stores/{collection}/search", json={"query": query})).raise_for_status()
    return (time.perf_counter() - started) * 1000


@contextlib.asynccontextmanager
async def _keeping_the_worker_busy(client: httpx.AsyncClient) -> AsyncIterator[None]:
    """Have uploads indexed in the collection `bench`; the first one is through, so that the worker's model is loaded."""
    chooser = random.Random(12)

    async def feed() -> None:
        while True:
            if await _num_waiting(client, "bench") < QUEUED:
                await _upload(client, "bench", prose(chooser, SENTENCES_PER_UPLOAD))
            else:
                await asyncio.sleep(POLL_S)

    await _upload(client, "bench", prose(chooser, 1))
    await _drained(client, "bench")
    feeding = asyncio.create_task(feed())
    try:
        yield
    finally:
        feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await feeding


async def _upload(client: httpx.AsyncClient, collection: str, text: str) -> None:
    file = {"file": ("bench.txt", text.encode())}
    uploaded = (await client.post("/v1/files", files=file, data={"purpose": "assistants"})).raise_for_status().json()
    attached = await client.post(f"/v1/vector_stores/{collection}/files", json={"file_id": uploaded["id"]})
    attached.raise_for_status()


async def _num_waiting(client: httpx.AsyncClient, collection: str) -> int:
    counts = (await client.get(f"/v1/vector_stores/{collection}")).raise_for_status().json()["file_counts"]
    if counts["failed"]:
        raise RuntimeError(f"{counts['failed']} uploads failed")
    return int(counts["in_progress"])


async def _drained(client: httpx.AsyncClient, collection: str) -> None:
    deadline = time.monotonic() + DRAIN_TIMEOUT_S
    while await _num_waiting(client, collection):
        if time.monotonic() > deadline:
            raise RuntimeError("the uploads are not indexed")
        await asyncio.sleep(POLL_S)


def _memory_mb(server: psutil.Process) -> tuple[float, float]:
    """Return the resident memory of the server and of its worker."""
    workers = [child for child in server.children(recursive=True) if _is_worker(child)]
    return server.memory_info().rss / BYTES_PER_MB, sum(child.memory_info().rss for child in workers) / BYTES_PER_MB


def _is_worker(process: psutil.Process) -> bool:
    try:
        return bool(process.cmdline()[1:] == ["-m", "rag_server.cli", "worker"])
    # A parsing process may just be ending.
    except psutil.Error:
        return False
