"""What the benchmarks share: figures and their table, child processes of rag-server, and the timing of searches."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import httpx
import numpy as np

from rag_server.protocols import Embedder
from rag_server.types import Vectors

START_TIMEOUT_S = 300.0
PASSIVE_WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    name: str
    value: float
    unit: str
    target: float | None = None
    # Whether the target is the smallest good value instead of the largest.
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class SearchTimes:
    """Milliseconds of each query: its search, its embedding beside the server, and the same search once more."""

    total: list[float]
    embedding: list[float]
    again: list[float]

    @property
    def beyond(self) -> list[float]:
        """What each search took beyond the embedding."""
        return [total - embedding for total, embedding in zip(self.total, self.embedding, strict=True)]


class RecordingEmbedder:
    """Remembers the passages that an embedding model is given."""

    def __init__(self, inner: Embedder) -> None:
        self._inner = inner
        self.model_id, self.location = inner.model_id, inner.location
        self.dimension, self.max_tokens = inner.dimension, inner.max_tokens
        self.embed_queries, self.token_spans = inner.embed_queries, inner.token_spans
        self.decode, self.shortens_to = inner.decode, inner.shortens_to
        self.passages: list[str] = []

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Return one row per passage."""
        self.passages += texts
        return self._vectors(texts)

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        return self._inner.embed_passages(texts)


def wait_passively() -> None:
    """Keep the model that is measured beside the server from keeping a core busy while the server works."""
    os.environ.update(PASSIVE_WAITING)


def inherited_environment() -> dict[str, str]:
    """Return the environment of a child that computes as it would on its own."""
    return {name: value for name, value in os.environ.items() if name not in PASSIVE_WAITING}


@contextmanager
def child(
    arguments: Sequence[str], url: str, environment: dict[str, str], *, log: IO[bytes] | int = subprocess.DEVNULL
) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """Run a command of rag-server until the end of the context; give it and the seconds until its /health answered."""
    with process(["-m", "rag_server.cli", *arguments], url, environment, log=log) as started:
        yield started


@contextmanager
def process(
    arguments: Sequence[str], url: str, environment: dict[str, str], *, log: IO[bytes] | int = subprocess.DEVNULL
) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """Run Python with these arguments until the end of the context; give it and the seconds until its /health answered."""
    started = time.perf_counter()
    running = subprocess.Popen([sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=log)
    try:
        while not _is_up(f"{url}/health"):
            if running.poll() is not None or time.perf_counter() - started > START_TIMEOUT_S:
                raise RuntimeError(f"{' '.join(arguments)} did not come up")
            time.sleep(0.02)
        yield running, time.perf_counter() - started
    finally:
        running.terminate()
        running.wait(60)


async def time_searches(client: httpx.AsyncClient, embedder: Embedder, queries: Sequence[str]) -> SearchTimes:
    """Search each query in the collection `bench`, embed it, and search it again, in turn."""
    times = SearchTimes([], [], [])
    for query in ["warm up one", "warm up two", *queries]:
        started = time.perf_counter()
        response = await client.post("/v1/vector_stores/bench/search", json={"query": query})
        searched = time.perf_counter()
        embedder.embed_queries([query])
        embedded = time.perf_counter()
        (await client.post("/v1/vector_stores/bench/search", json={"query": query})).raise_for_status()
        response.raise_for_status()
        times.total.append((searched - started) * 1000)
        times.embedding.append((embedded - searched) * 1000)
        times.again.append((time.perf_counter() - embedded) * 1000)
    return SearchTimes(times.total[2:], times.embedding[2:], times.again[2:])


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` per cent of the values do not exceed."""
    return float(np.percentile(values, share))


def print_figures(figures: Sequence[Figure]) -> None:
    """Print the figures beside their targets."""
    print(f"{'figure':<60}{'measured':>12}{'target':>14}")
    for figure in figures:
        sign = ">=" if figure.at_least else "<"
        target = "" if figure.target is None else f"{sign} {figure.target:g} {figure.unit}"
        print(f"{figure.name:<60}{figure.value:>9.2f} {figure.unit:<2}{target:>14}", flush=True)


def _is_up(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
