"""Requests from inside the process: the same answers and errors as over HTTP, as a known caller, behind everybody else's."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path

import httpx
import pytest

from rag_server.api.app import create_app
from rag_server.api.inside import Inside
from rag_server.cache.rate_limiter import DAY_S, MINUTE_S, Limit
from rag_server.config import Settings
from rag_server.engines.openai_http import OpenAIHttpEngine
from rag_server.engines.scripted import Script
from rag_server.engines.scripted import create_app as create_scripted_app
from rag_server.protocols import Embedder
from rag_server.services import Services
from rag_server.types import Access, Caller
from tests.conftest import served
from tests.live import Recorded, live_server

CHAT = "/v1/chat/completions"
HELLO = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}]}
ME = Caller()
Running = Callable[[], AbstractAsyncContextManager[tuple[Inside, Services]]]


@pytest.fixture
def inside(settings: Settings, scripted_engine: Callable[..., AbstractContextManager[str]]) -> Running:
    """Run an application in the test's own loop, with its services."""

    @contextlib.asynccontextmanager
    async def running() -> AsyncIterator[tuple[Inside, Services]]:
        with scripted_engine() as base_url:
            engine = settings.engine.model_copy(update={"base_url": base_url})
            services = Services(settings.model_copy(update={"engine": engine}))
            app = create_app(services)
            async with app.router.lifespan_context(app):
                yield Inside(app, services), services

    return running


async def test_an_answer_is_the_routes_own(inside: Running) -> None:
    """Status, body and an id of its own for each request; also of embeddings, completions and responses."""
    async with inside() as (application, _):
        send = application.send
        status, answer, request_id = await send(CHAT, HELLO, ME)
        others = [
            await send("/v1/completions", {"model": "scripted", "prompt": "hello"}, ME),
            await send("/v1/embeddings", {"model": "default", "input": "hello"}, ME),
            await send("/v1/responses", {"model": "scripted", "input": "hello"}, ME),
        ]

    assert (status, answer["choices"][0]["message"]["content"]) == (200, "You said: hello")
    assert [(status, answer["object"]) for status, answer, _ in others] == [
        (200, "text_completion"),
        (200, "list"),
        (200, "response"),
    ]
    assert len({request_id, *(request_id for _, _, request_id in others)}) == 4


async def test_an_error_is_the_one_of_http(inside: Running) -> None:
    """A model that there is not, a body that is wrong, that no parser should see, that is too large; and a wrong path."""
    bodies = [
        (CHAT, {**HELLO, "model": "none"}),
        (CHAT, {"model": "scripted"}),
        (CHAT, {**HELLO, "x": "\ud800"}),
        (CHAT, {**HELLO, "x": "y" * 40_000_000}),
        ("/v1/chat/nothing", HELLO),
    ]
    async with inside() as (application, _):
        answers = [await application.send(url, body, ME) for url, body in bodies]

    assert [(status, answer["error"]["code"]) for status, answer, _ in answers] == [
        (404, "model_not_found"),
        (400, "invalid_request"),
        (400, "invalid_json"),
        (413, "payload_too_large"),
        (404, "unknown_url"),
    ]


async def test_a_caller_is_let_in_for_what_its_key_was_made_for(inside: Running) -> None:
    """A key that may only read does not ask, and what a tenant asks is answered from its own collections."""
    async with inside() as (application, services):
        services.store.vector_stores.get_or_create("docs", Access("a"), await services.embedder())
        refused = await application.send(CHAT, HELLO, Caller(scopes=frozenset({"read"})))
        asked = {**HELLO, "model": "rag/docs"}
        own, foreign = [await application.send(CHAT, asked, Caller(Access(tenant))) for tenant in ("a", "b")]

    assert (refused[0], refused[1]["error"]["code"]) == (403, "insufficient_scope")
    assert own[0] == 200
    assert (foreign[0], foreign[1]["error"]["code"]) == (404, "model_not_found")


async def test_an_error_that_nobody_foresaw_is_500_without_a_word(inside: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was is in the log."""
    async with inside() as (application, services):
        monkeypatch.setattr(services.engine, "chat", None)
        status, answer, _ = await application.send(CHAT, HELLO, ME)

    assert (status, answer["error"]["code"]) == (500, "internal_error")
    assert "NoneType" not in json.dumps(answer)


async def test_only_an_engine_of_ours_is_told_what_may_wait(inside: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours gets 1 from inside and 0 from a client, whatever that says; another engine gets what the client says."""
    app = Recorded(create_scripted_app(Script()))
    async with inside() as (application, services):
        with served(app) as url:
            for takes_priority in (True, False):
                engine = OpenAIHttpEngine(lambda: f"{url}/v1", takes_priority=takes_priority)
                monkeypatch.setattr(services, "engine", engine)
                await asyncio.create_task(application.send(CHAT, HELLO, ME))
                await asyncio.create_task(engine.chat({**HELLO, "priority": -5}))
                await engine.aclose()

    sent = [json.loads(body) for body in app.sent if b"messages" in body]
    assert [body.get("priority") for body in sent] == [1, 0, None, -5]


def test_a_live_request_waits_until_its_first_token(tmp_path: Path, embedder: Embedder) -> None:
    """From its arrival to the first byte of its answer it is counted, and not afterwards."""
    with live_server(tmp_path / "data", embedder) as live:
        slow = live.stack.enter_context(served(create_scripted_app(Script(tokens_per_s=20, time_to_first_token_s=0.5))))
        live.services.engine = OpenAIHttpEngine(lambda: f"{slow}/v1")
        traffic = live.services.live_traffic
        body = {**HELLO, "messages": [{"role": "user", "content": "word " * 20}], "stream": True}

        def ask() -> list[bool]:
            with httpx.stream("POST", f"{live.url}{CHAT}", json=body, trust_env=False, timeout=30.0) as response:
                return [traffic.is_waiting for _ in response.iter_lines()]

        with ThreadPoolExecutor() as threads:
            asked = threads.submit(ask)
            while not asked.done() and not traffic.is_waiting:
                time.sleep(0.001)
            was_counted = not asked.done()
            seen = asked.result()

    assert was_counted
    assert seen
    assert not any(seen)


async def test_tokens_of_a_batch_are_charged_to_its_keys_quota(inside: Running) -> None:
    """A key's quota of tokens a day holds for batches too; its rate per minute is for those who wait."""
    caller = Caller(key_id="key_1", limits={"tokens_per_day": 1000, "tokens_per_minute": 1000})
    day, minute = Limit("tokens_per_day", "quota", 1000, DAY_S), Limit("tokens_per_minute", "rate", 1000, MINUTE_S)
    async with inside() as (application, services):

        async def standings() -> list[int]:
            return [one.remaining for one in (await services.rate_limiter.take("key_1", [(day, 0), (minute, 0)])).standings]

        while not await standings():
            await asyncio.sleep(0.02)
        _, answer, _ = await application.send(CHAT, HELLO, caller)
        while (await standings())[0] == 1000:
            await asyncio.sleep(0.02)
        left = await standings()

    assert left == [1000 - answer["usage"]["total_tokens"], 1000]
