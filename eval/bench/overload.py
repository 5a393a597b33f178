"""What the server does with more than it can carry, with many idle streams, and for clients that go away."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

import httpx
import psutil

from eval.bench.load import Answer, Target, closed_loop, open_loop
from eval.bench.tools import Figure, percentile
from rag_server.protocols import Json

CHAT: Json = {"model": "scripted", "messages": [{"role": "user", "content": "How are you?"}]}
PATH = "/v1/chat/completions"
# Of the server in these measurements: one engine's worth of answers at once, and as many again that wait.
RUNNING, WAITING = 16, 16
# How many times the load that the server can carry is put on it.
TIMES = 4
POLL_S = 0.002
GIVE_UP_S = 30.0


async def measure_overload(url: str, *, seconds: float) -> list[Figure]:
    """Return the goodput at four times the load that can be carried, and what the admitted and the refused see."""
    target = Target(url)
    await closed_loop(target, PATH, CHAT, clients=4, seconds=min(1.0, seconds))
    carried = await closed_loop(target, PATH, CHAT, clients=RUNNING + WAITING, seconds=seconds)
    peak = _per_second(carried, seconds)
    answers = await open_loop(target, PATH, CHAT, per_second=TIMES * peak, seconds=seconds)
    target.close()
    admitted = [answer.total_s * 1000 for answer in answers if answer.status == 200]
    refused = [answer.total_s * 1000 for answer in answers if answer.status == 503]
    others = len(answers) - len(admitted) - len(refused)
    # With so many before it an answer takes about two rounds of those that run; three times that is no more a bound.
    bound_ms = 3 * (RUNNING + WAITING) / peak * 1000
    return [
        Figure("load that can be carried", peak, "/s"),
        Figure("load that is put on it", len(answers) / seconds, "/s"),
        Figure(
            "goodput at that load, of the load that can be carried", 100 * _per_second(answers, seconds) / peak, "%", 90, True
        ),
        Figure("admitted, 99th percentile", percentile(admitted, 99), "ms", bound_ms),
        Figure("refused, of all", 100 * len(refused) / len(answers), "%"),
        Figure("refused, 50th percentile", percentile(refused, 50) if refused else 0.0, "ms"),
        Figure("refused, 99th percentile", percentile(refused, 99) if refused else 0.0, "ms", 50),
        Figure("neither answered nor refused", others, "", 1),
    ]


async def measure_idle_streams(url: str, server_pid: int, *, num_streams: int) -> list[Figure]:
    """Return how many streams stay open whose engine says nothing after the first event, and what each takes."""
    target = Target(url)
    body = {**CHAT, "stream": True}
    server = psutil.Process(server_pid)
    async with AsyncExitStack() as stack:
        # What is built once is no part of a stream.
        await _first_event(await stack.enter_async_context(target.sent(PATH, body)))
        before = server.memory_info().rss
        started = time.perf_counter()
        opened = 0
        for _ in range(0, num_streams, 50):
            readers = [await stack.enter_async_context(target.sent(PATH, body)) for _ in range(min(50, num_streams - opened))]
            await asyncio.gather(*(_first_event(reader) for reader in readers))
            opened += len(readers)
        opening_s = time.perf_counter() - started
        held_kb = (server.memory_info().rss - before) / num_streams / 1024
        open_streams = await _metric(url, "rag_streams_open") - 1
        other = await closed_loop_of_models(url, 20)
    return [
        Figure("idle streams that are held open", open_streams, "", num_streams, True),
        Figure("opening them", opening_s, "s"),
        Figure("memory of a stream", held_kb, "kB"),
        Figure("list of models meanwhile, median", percentile(other, 50), "ms"),
    ]


async def closed_loop_of_models(url: str, number: int) -> list[float]:
    """Return the milliseconds of so many other requests, one after the other."""
    times = []
    async with httpx.AsyncClient(base_url=url, timeout=60.0, trust_env=False) as client:
        for _ in range(number):
            started = time.perf_counter()
            (await client.get("/v1/models")).raise_for_status()
            times.append((time.perf_counter() - started) * 1000)
    return times


async def measure_disconnects(url: str, engine_url: str, *, tries: int) -> list[Figure]:
    """Return the longest time until the engine is free after its client went away: before its first byte, and in a stream."""
    target = Target(url)
    figures = []
    for name, body in (("whole answer", CHAT), ("stream", {**CHAT, "stream": True})):
        times = []
        for _ in range(tries):
            async with target.sent(PATH, body) as reader:
                await _until(engine_url, lambda running: running == 1)
                if body.get("stream"):
                    await _first_event(reader)
            gone = time.perf_counter()
            await _until(engine_url, lambda running: running == 0)
            times.append((time.perf_counter() - gone) * 1000)
        figures.append(Figure(f"engine free after the client of a {name} has gone, longest of {tries}", max(times), "ms", 200))
    return figures


async def _first_event(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"a stream was not opened: {head!r}")
    await reader.readuntil(b"\n\n")


async def _until(engine_url: str, reached: Callable[[int], bool]) -> None:
    async with asyncio.timeout(GIVE_UP_S), httpx.AsyncClient(trust_env=False) as client:
        while not reached((await client.get(f"{engine_url}/scripted/stats")).json()["running"]):
            await asyncio.sleep(POLL_S)


async def _metric(url: str, name: str) -> float:
    async with httpx.AsyncClient(trust_env=False) as client:
        lines = (await client.get(f"{url}/metrics")).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def _per_second(answers: Sequence[Answer], seconds: float) -> float:
    """Return the successful answers per second, over the time that requests were sent in."""
    return sum(answer.status == 200 for answer in answers) / seconds
