"""Measures the API: what it adds to a bare proxy, what it does under overload, with idle streams and for gone clients.

python -m eval.bench_api
"""

import argparse
import asyncio
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvloop

from eval.bench.load import Target
from eval.bench.overload import CHAT, PATH, RUNNING, WAITING, measure_disconnects, measure_idle_streams, measure_overload
from eval.bench.tools import (
    START_TIMEOUT_S,
    Figure,
    child,
    free_port,
    inherited_environment,
    print_figures,
    process,
    wait_passively,
)
from eval.bench_server import fill_store
from rag_server import factory
from rag_server.config import load_settings
from rag_server.protocols import Json

# A streamed answer of some length, in which every chunk costs something.
STREAMED: Json = {**CHAT, "stream": True, "messages": [{"role": "user", "content": "word " * 100}]}
WITH_PASSAGES: Json = {"model": "rag/bench", "messages": [{"role": "user", "content": "word1 word2 word3"}]}


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    num_requests: int = 300
    num_chunks: int = 2000
    seconds: float = 10.0
    num_streams: int = 1000
    tries: int = 20


@dataclass(frozen=True, slots=True)
class Servers:
    """The addresses of the server, of the bare proxy and of the engine behind both."""

    server: str
    proxy: str
    engine: str
    server_pid: int


async def measure_added(servers: Servers, number: int) -> list[Figure]:
    """Return what the server adds to a bare proxy; requests to engine, proxy and server take turns."""
    server, proxy, engine = Target(servers.server), Target(servers.proxy), Target(servers.engine)
    figures = []
    for name, body in (("answer", CHAT), ("stream of 100 tokens", STREAMED)):
        times = [[await target.post(PATH, body) for target in (engine, proxy, server)] for _ in range(number)]
        direct, bare, ours = (statistics.median(row[which].total_s * 1000 for row in times[3:]) for which in range(3))
        first = statistics.median((row[2].first_s - row[1].first_s) * 1000 for row in times[3:])
        figures += [
            Figure(f"{name}: engine alone, median", direct, "ms"),
            Figure(f"{name}: through the bare proxy, median", bare, "ms"),
            Figure(f"{name}: through the server, median", ours, "ms"),
            Figure(f"{name}: server beyond the proxy, median", ours - bare, "ms", 10),
            Figure(f"{name}: first byte beyond the proxy, median", first, "ms", 10),
            Figure(f"{name}: server relative to the proxy", ours / bare, ""),
        ]
    with_passages = [(await server.post(PATH, WITH_PASSAGES)).total_s * 1000 for _ in range(number // 3 + 3)]
    figures.append(Figure("answer with retrieval (cached), median", statistics.median(with_passages[3:]), "ms"))
    for target in (server, proxy, engine):
        target.close()
    return figures


@contextmanager
def running(folder: Path, *, engine: Sequence[str], **limits: int) -> Iterator[Servers]:
    """Run the scripted engine with these arguments, a bare proxy and a server with these limits before it."""
    ports = [free_port() for _ in range(3)]
    engine_url, proxy_url, url = (f"http://127.0.0.1:{port}" for port in ports)
    inherited = inherited_environment()
    environment = {**inherited, "RAG_DATA_DIR": str(folder), "RAG_ENGINE__BASE_URL": f"{engine_url}/v1"}
    environment |= {f"RAG_LIMITS__{name.upper()}": str(value) for name, value in limits.items()}
    proxy = ["-m", "eval.bench.proxy", "--port", str(ports[1]), "--engine", engine_url]
    with (
        child(["scripted-engine", "--port", str(ports[0]), *engine], engine_url, inherited),
        process(proxy, proxy_url, inherited),
        child(["serve", "--port", str(ports[2])], url, environment) as (server, _),
    ):
        _wait_ready(url)
        yield Servers(url, proxy_url, engine_url, server.pid)


def run_bench(size: Size) -> list[Figure]:
    """Return every figure."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill_store(folder, factory.load_embedder(load_settings({})), size.num_chunks)
        # What was loaded for that is large; looking through it for garbage would be measured as delays.
        gc.collect()
        gc.freeze()
        with running(folder, engine=["--time-to-first-token-s", "0"]) as servers:
            figures = _run(measure_added(servers, size.num_requests))
        limits = {"generate_running": RUNNING, "generate_waiting": WAITING}
        # As fast as one that works on 16 answers of a tenth of a second at once.
        with running(folder, engine=["--time-to-first-token-s", "0.1"], **limits) as servers:
            figures += _run(measure_overload(servers.server, seconds=size.seconds))
        # An engine that says one token, and the next one long after the measurement.
        silent = ["--tokens-per-s", "0.001"]
        with running(folder, engine=silent, generate_running=size.num_streams + 100) as servers:
            figures += _run(measure_disconnects(servers.server, servers.engine, tries=size.tries))
            figures += _run(measure_idle_streams(servers.server, servers.server_pid, num_streams=size.num_streams))
    return figures


def missed(figures: Sequence[Figure]) -> list[str]:
    """Return the names of the figures that are not as wanted."""
    return [
        figure.name
        for figure in figures
        if figure.target is not None and (figure.value < figure.target if figure.at_least else figure.value >= figure.target)
    ]


def print_table(size: Size, figures: Sequence[Figure]) -> None:
    """Print the figures beside their targets."""
    print(
        f"{size.num_requests} requests in turn, {size.seconds:g} s of load with {RUNNING} places and {WAITING} to wait, "
        f"{os.cpu_count()} cores\n"
    )
    print_figures(figures)
    for name in missed(figures):
        print(f"missed: {name}")


def _run(measurement: Coroutine[Any, Any, list[Figure]]) -> list[Figure]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(measurement)


def _wait_ready(url: str) -> None:
    ends_at = time.monotonic() + START_TIMEOUT_S
    while (ready := httpx.get(f"{url}/ready", timeout=60.0, trust_env=False)).status_code != 200:
        if time.monotonic() > ends_at:
            raise RuntimeError(f"the server does not become ready: {ready.text}")
        time.sleep(0.1)


def main() -> None:
    """Run the command line; the status is 1 if a figure is not as wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=Size().num_requests, help="requests per median")
    parser.add_argument("--seconds", type=float, default=Size().seconds, help="time under load")
    parser.add_argument("--streams", type=int, default=Size().num_streams, help="idle streams")
    arguments = parser.parse_args()
    wait_passively()
    size = Size(num_requests=arguments.requests, seconds=arguments.seconds, num_streams=arguments.streams)
    figures = run_bench(size)
    print_table(size, figures)
    sys.exit(1 if missed(figures) else 0)


if __name__ == "__main__":
    main()
