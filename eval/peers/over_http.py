"""Searches a server over HTTP: callers in this process that ask one after the other, each query once."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import httpx
import psutil

from eval.bench.load import Target
from eval.peers.adapters.commands import FOUND_TIMEOUT_S, NUM_RESULTS, Load, Row
from eval.peers.processes import tree_memory_mb
from rag_server.errors import RagServerError
from rag_server.protocols import Json

POLL_S = 0.005
TIMEOUT_S = 300.0


class HttpApi(Protocol):
    """How a server is spoken to."""

    def request(self, query: str, k: int) -> tuple[str, Json]:
        """Return the path and the body of a POST that searches."""

    def ids(self, answer: Any) -> list[str]:
        """Return the chunk ids of its answer, best first."""

    def add(self, client: httpx.Client, row: Row) -> None:
        """Ask the server to make one more chunk searchable; it may be so only later."""


class OverHttp:
    """A server that is searched over HTTP."""

    def __init__(self, url: str, api: HttpApi, process: psutil.Process) -> None:
        self._url, self._api, self._process = url, api, process

    def search(self, queries: Sequence[str], *, callers: int, seconds: float) -> Load:
        """Have callers search over connections that stay open."""
        return asyncio.run(self._search(queries, callers, seconds))

    def rank(self, queries: Sequence[str], k: int) -> list[list[str]]:
        """Return the ids of the k best chunks of each query.

        Raises:
            RagServerError: The server answers with an error.
        """
        with self._client() as client:
            return [self._found(client, query, k) for query in queries]

    def add(self, row: Row) -> float | None:
        """Send a chunk, and search for its text until it is found."""
        with self._client() as client:
            started = time.perf_counter()
            self._api.add(client, row)
            while time.perf_counter() < started + FOUND_TIMEOUT_S:
                if row.id in self._found(client, row.text, NUM_RESULTS):
                    return time.perf_counter() - started
                time.sleep(POLL_S)
        return None

    def memory_mb(self) -> float:
        """Return what the server and its children take."""
        return tree_memory_mb(self._process)

    async def _search(self, queries: Sequence[str], callers: int, seconds: float) -> Load:
        target, load, waiting = Target(self._url), Load(), iter(queries)
        started = time.perf_counter()

        async def call() -> None:
            for query in _until(waiting, started + seconds):
                answer = await target.post(*self._api.request(query, NUM_RESULTS))
                load.seconds = time.perf_counter() - started
                if answer.status == 200:
                    load.latencies_ms.append(answer.total_s * 1000)
                else:
                    load.failures.append(f"status {answer.status}")

        await asyncio.gather(*(call() for _ in range(callers)))
        target.close()
        return load

    def _found(self, client: httpx.Client, query: str, k: int) -> list[str]:
        path, body = self._api.request(query, k)
        response = client.post(path, json=body)
        if not response.is_success:
            raise RagServerError(f"{self._url}{path} answered {response.status_code}: {response.text[:500]}")
        return self._api.ids(response.json())

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=self._url, timeout=TIMEOUT_S, trust_env=False)


def _until(queries: Iterator[str], ends_at: float) -> Iterator[str]:
    while time.perf_counter() < ends_at and (query := next(queries, None)) is not None:
        yield query
