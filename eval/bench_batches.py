"""Measures batches beside the engine alone: tokens per second, overhead of a row, memory, and what live requests notice.

python -m eval.bench_batches
python -m eval.bench_batches --engine vllm --rows 256
"""

import argparse
import asyncio
import itertools
import os
import random
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from eval.bench.batches import ask_live, drive, during_batch, run_batch
from eval.bench.tools import Figure, child, free_port, inherited_environment, percentile, print_figures, wait_passively
from eval.bench_api import Servers, missed, running
from eval.bench_server import NUM_WORDS, fill_store
from eval.engine import START_TIMEOUT_S
from rag_server import factory
from rag_server.config import load_settings
from rag_server.protocols import Json

# Of the engine whose tokens are counted: so many answers at once, of so many tokens, at such a pace.
PLACES = 16
MIN_TOKENS, MAX_TOKENS = 50, 150
TOKENS_PER_S = 100.0
FIRST_TOKEN_S = 0.1
# Of the real one.
VLLM_CLIENTS = (64, 128)
WARM_UP_ROWS = 16
VLLM_TOKENS = 32
MODEL = "scripted"


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured. Of the many rows the memory is read at the three marks."""

    num_rows: int = 400
    num_many: int = 10_000
    num_live: int = 80
    live_per_s: float = 2.0
    num_chunks: int = 2000

    @property
    def marks(self) -> tuple[int, int, int]:
        """Rows at which the memory is read."""
        return self.num_many // 10, self.num_many // 2, self.num_many


def plain_bodies(number: int, *, seed: int, model: str = MODEL, **settings: object) -> list[Json]:
    """Return requests that are handed on to the engine, no two alike."""
    chooser = random.Random(seed)
    texts = [f"{place} {' '.join(f'word{chooser.randrange(NUM_WORDS)}' for _ in range(30))}" for place in range(number)]
    return [{"model": model, "messages": [{"role": "user", "content": text}], **settings} for text in texts]


def rag_bodies(number: int, *, seed: int) -> list[Json]:
    """Return questions that are answered from the collection."""
    return [{**body, "model": "rag/bench"} for body in plain_bodies(number, seed=seed)]


def _of_lengths(bodies: Sequence[Json]) -> list[Json]:
    """Have the answers end at different lengths, the same for each list: they would come in waves otherwise."""
    chooser = random.Random(10)
    return [{**body, "max_tokens": chooser.randint(MIN_TOKENS, MAX_TOKENS)} for body in bodies]


async def measure_tokens(servers: Servers, number: int) -> list[Figure]:
    """Return the tokens per second of the engine alone, at its best, and of batches of requests handed on and of questions.

    An answer takes this engine the same time whatever the prompt, so that the questions' tokens are counted as those written.
    """
    bodies = _of_lengths(plain_bodies(number, seed=1))
    # What is built once, such as the embedding model, is no part of a row.
    await run_batch(servers.server, rag_bodies(number // 10, seed=9))
    alone = min([await drive(servers.engine, bodies, clients=clients) for clients in (PLACES, 2 * PLACES)])
    handed_on = await run_batch(servers.server, bodies)
    asked = await run_batch(servers.server, _of_lengths(rag_bodies(number, seed=2)))
    written = sum(body["max_tokens"] for body in bodies)
    return [
        Figure("engine alone: tokens written", written / alone, "/s"),
        Figure("batch: tokens written", written / handed_on.seconds, "/s"),
        Figure("batch with retrieval: tokens written", written / asked.seconds, "/s"),
        Figure("batch, relative to the engine alone", 100 * alone / handed_on.seconds, "%", 95, True),
        Figure("batch with retrieval, relative to the engine alone", 100 * alone / asked.seconds, "%", 95, True),
    ]


async def measure_live(servers: Servers, size: Size) -> list[Figure]:
    """Return how long answers from the collection take people while nothing else happens, and during a batch."""
    idle = await ask_live(servers.server, _of_lengths(rag_bodies(size.num_live, seed=3)), per_second=size.live_per_s)
    # More than can be answered meanwhile.
    rows = _of_lengths(rag_bodies(int(PLACES * (10 + 2 * size.num_live / size.live_per_s)), seed=4))
    live = _of_lengths(rag_bodies(size.num_live, seed=5))
    busy = await during_batch(servers.server, rows, live, per_second=size.live_per_s)
    before, during = (percentile([answer.total_s * 1000 for answer in answers], 95) for answers in (idle, busy))
    return [
        Figure("live request, p95", before, "ms"),
        Figure("live request during a batch, p95", during, "ms"),
        Figure("live request during a batch, relative to before", during / before, "x", 1.5),
    ]


async def measure_many(servers: Servers, size: Size) -> list[Figure]:
    """Return what a row takes beyond the engine that answers at once, and the memory of the server on the way."""
    bodies = plain_bodies(size.num_many, seed=6)
    # Likewise.
    await run_batch(servers.server, plain_bodies(50, seed=7))
    alone = min([await drive(servers.engine, bodies, clients=clients) for clients in (4, 16)])
    ran = await run_batch(servers.server, bodies, server=servers.server_pid, marks=size.marks)
    each, bare = (seconds * 1000 / size.num_many for seconds in (ran.seconds, alone))
    first, *_, last = size.marks
    return [
        Figure("row, the engine alone", bare, "ms"),
        Figure("row of a batch", each, "ms"),
        Figure("row of a batch beyond the engine", each - bare, "ms", 2),
        *(Figure(f"server's memory after {mark:,} rows", ran.memory_mb[mark], "MB") for mark in size.marks),
        Figure(f"server's growth from {first:,} rows to {last:,}", ran.memory_mb[last] - ran.memory_mb[first], "MB", 50),
    ]


def run_bench(size: Size) -> list[Figure]:
    """Return every figure, with the scripted engine."""
    answer = " ".join(["word"] * MAX_TOKENS)
    paced = ["--answer", answer, "--time-to-first-token-s", str(FIRST_TOKEN_S), "--tokens-per-s", str(TOKENS_PER_S)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill_store(folder, factory.load_embedder(load_settings({})), size.num_chunks)
        with running(folder, engine=[*paced, "--max-running", str(PLACES)]) as servers:
            figures = asyncio.run(measure_tokens(servers, size.num_rows))
            figures += asyncio.run(measure_live(servers, size))
        with running(folder, engine=["--answer", "Yes."]) as servers:
            figures += asyncio.run(measure_many(servers, size))
    return figures


async def run_vllm(number: int) -> list[Figure]:
    """Return the tokens per second of a real vLLM with the packaged model, alone at its best, and in a batch."""
    with tempfile.TemporaryDirectory() as name:
        async with _vllm(Path(name)) as (base_url, model):
            url, seeds = base_url.removesuffix("/v1"), itertools.count(8)

            def fresh() -> list[Json]:
                """Return rows whose prompts nobody asked before: what the prefix cache holds would depend on the run before."""
                return plain_bodies(number, seed=next(seeds), model=model, max_tokens=VLLM_TOKENS, temperature=0)

            with _serving(Path(name), base_url) as server:
                await drive(url, fresh()[:WARM_UP_ROWS], clients=WARM_UP_ROWS)
                alone = [await drive(url, fresh(), clients=clients) for clients in VLLM_CLIENTS]
                ran = await run_batch(server, fresh())
                alone.append(await drive(url, fresh(), clients=VLLM_CLIENTS[alone.index(min(alone))]))
    tokens = ran.batch["usage"]["total_tokens"]
    return [
        Figure("vLLM alone: tokens read and written", tokens / min(alone), "/s"),
        Figure("batch over vLLM: tokens read and written", ran.tokens_per_s, "/s"),
        Figure("batch over vLLM, relative to vLLM alone", 100 * min(alone) / ran.seconds, "%", 95, True),
    ]


@asynccontextmanager
async def _vllm(folder: Path) -> AsyncIterator[tuple[str, str]]:
    """Run vLLM as the server would; give its address and the name of its model."""
    engine = factory.build_engine_child(load_settings({}, data_dir=folder))
    if engine is None:
        raise RuntimeError("an engine is configured")
    engine.check_installed()
    engine.start()
    try:
        await asyncio.wait_for(engine.wait_ready(), START_TIMEOUT_S)
        async with httpx.AsyncClient(trust_env=False) as client:
            models = (await client.get(f"{engine.base_url}/models")).raise_for_status().json()
        yield engine.base_url, str(models["data"][0]["id"])
    finally:
        await engine.stop()


@contextmanager
def _serving(folder: Path, base_url: str) -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {**inherited_environment(), "RAG_DATA_DIR": str(folder), "RAG_ENGINE__BASE_URL": base_url}
    with child(["serve", "--port", str(port)], url, environment):
        yield url


def print_table(size: Size, figures: Sequence[Figure]) -> None:
    """Print the figures beside their targets."""
    print(
        f"{size.num_rows} rows of {MIN_TOKENS} to {MAX_TOKENS} tokens with {PLACES} places in the engine, {size.num_many:,} "
        f"rows of one token, {size.num_live} live requests, {os.cpu_count()} cores\n"
    )
    print_figures(figures)
    for name in missed(figures):
        print(f"missed: {name}")


def main() -> None:
    """Run the command line; the status is 1 if a figure is not as wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("scripted", "vllm"), default="scripted", help="what answers the rows")
    parser.add_argument("--rows", type=int, default=Size().num_rows, help="rows of the batches whose tokens are counted")
    parser.add_argument("--many", type=int, default=Size().num_many, help="rows of the large batch")
    parser.add_argument("--live", type=int, default=Size().num_live, help="live requests before and during a batch")
    arguments = parser.parse_args()
    wait_passively()
    size = Size(num_rows=arguments.rows, num_many=arguments.many, num_live=arguments.live)
    if arguments.engine == "vllm":
        figures = asyncio.run(run_vllm(arguments.rows))
        print_figures(figures)
        for name in missed(figures):
            print(f"missed: {name}")
    else:
        figures = run_bench(size)
        print_table(size, figures)
    sys.exit(1 if missed(figures) else 0)


if __name__ == "__main__":
    main()
