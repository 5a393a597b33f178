"""Reading how busy an engine is, against the scripted engine and against texts."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager

import aiohttp

from rag_server.engines.engine_load import EngineLoad, EngineMetrics, load_of

BODY = {"model": "scripted", "messages": [{"role": "user", "content": "one two three four"}]}


def test_numbers_of_all_engines_are_added() -> None:
    """Behind one address may be several; other metrics, and those with longer names, are not taken for them."""
    text = (
        '# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{engine="0"} 3.0\n'
        'vllm:num_requests_running{engine="1"} 4.0\nvllm:num_requests_waiting{engine="0"} 1e1\n'
        'vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 99.0\n'
    )

    assert load_of(text) == EngineLoad(running=7, waiting=10)


def test_what_tells_nothing_is_no_load() -> None:
    """Metrics of another program, half of what is needed, and numbers that are none."""
    texts = [
        "",
        "up 1\n",
        "vllm:num_requests_running 3.0\n",
        "vllm:num_requests_running 1.e.2\nvllm:num_requests_waiting 0.0\n",
    ]
    texts += ["vllm:num_requests_running 1e400\nvllm:num_requests_waiting 0.0\n"]

    assert [load_of(text) for text in texts] == [None] * len(texts)


async def test_a_full_engine_tells_who_runs_and_who_waits(scripted_engine: Callable[..., AbstractContextManager[str]]) -> None:
    """Of five requests at an engine with two places, two run and three wait; all get their answers, and then none is there."""
    with scripted_engine(max_running=2, time_to_first_token_s=0.5) as base_url:
        metrics = EngineMetrics(lambda: base_url)
        async with aiohttp.ClientSession() as session:

            async def ask() -> int:
                async with session.post(f"{base_url}/chat/completions", json=BODY) as response:
                    await response.read()
                    return response.status

            asked = [asyncio.ensure_future(ask()) for _ in range(5)]
            seen = set()
            while not all(one.done() for one in asked):
                seen.add(await metrics.read())
                await asyncio.sleep(0.01)
            statuses = await asyncio.gather(*asked)
        afterwards = await metrics.read()
        await metrics.aclose()

    assert statuses == [200] * 5
    assert EngineLoad(running=2, waiting=3) in seen
    assert max(load.running for load in seen) == 2
    assert afterwards == EngineLoad(0, 0)


async def test_an_engine_that_is_away_is_no_load() -> None:
    """Nothing is raised where nobody answers."""
    metrics = EngineMetrics(lambda: "http://127.0.0.1:9/v1")

    assert await metrics.read() is None
    await metrics.aclose()
