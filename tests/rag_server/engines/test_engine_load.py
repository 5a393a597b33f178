"""Reading how busy an engine is, against the scripted engine and against texts."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager

import aiohttp
import pytest

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


def test_hit_rate_is_of_all_engines_and_tokens() -> None:
    """Of 400 tokens asked for in two prefix caches, 100 were there; what lies outside of the engine does not count."""
    busy = "vllm:num_requests_running 0.0\nvllm:num_requests_waiting 0.0\n"
    text = (
        'vllm:prefix_cache_queries_total{engine="0"} 300.0\nvllm:prefix_cache_queries_total{engine="1"} 1e2\n'
        'vllm:prefix_cache_hits_total{engine="0"} 75.0\nvllm:prefix_cache_hits_total{engine="1"} 25.0\n'
        'vllm:prefix_cache_hits_created{engine="0"} 1.7e9\nvllm:external_prefix_cache_hits_total{engine="0"} 9.0\n'
    )

    assert load_of(busy + text) == EngineLoad(0, 0, prefix_hit_rate=0.25)


@pytest.mark.parametrize(("queries", "hits"), [("0.0", "0.0"), ("1.0", "2.0"), ("1e400", "1.0"), ("1.e.2", "1.0")])
def test_numbers_that_are_no_share_are_no_hit_rate(queries: str, hits: str) -> None:
    """The load is told all the same."""
    text = f"vllm:num_requests_running 1.0\nvllm:num_requests_waiting 0.0\nvllm:prefix_cache_queries_total {queries}\n"

    assert load_of(f"{text}vllm:prefix_cache_hits_total {hits}\n") == EngineLoad(1, 0)


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
