"""Bounded queues: order, refusals, and places that are held until an answer has ended."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from rag_server.api.queues import WorkQueue
from rag_server.api.work import work_of
from rag_server.config import LimitsSettings, Settings
from rag_server.errors import OverloadedError
from tests.conftest import running_server

StartEngine = Callable[..., AbstractContextManager[str]]
CHAT: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}]}


def queue(*, running: int = 1, waiting: int = 10, max_wait_s: float = 60.0) -> WorkQueue:
    return WorkQueue("test", max_running=running, max_waiting=waiting, max_wait_s=max_wait_s)


def with_limits(settings: Settings, **limits: Any) -> Settings:
    return settings.model_copy(update={"limits": LimitsSettings(**limits)})


async def test_those_who_wait_are_served_in_their_order() -> None:
    """Never more than the limit run, and whoever came first is first."""
    places, order, running, most = queue(running=2), [], 0, 0

    async def work(number: int) -> None:
        nonlocal running, most
        async with places.place():
            running += 1
            most = max(most, running)
            order.append(number)
            await asyncio.sleep(0)
            running -= 1

    await asyncio.gather(*(work(number) for number in range(10)))

    assert order == list(range(10))
    assert most == 2


async def test_newcomer_does_not_overtake() -> None:
    """A place that becomes free belongs to whoever waits, also if somebody comes before the one is awake."""
    places, order = queue(), []

    async def work(name: str) -> None:
        async with places.place():
            order.append(name)

    async with places.place():
        waiting = asyncio.create_task(work("waiting"))
        await asyncio.sleep(0)
    await work("newcomer")
    await waiting

    assert order == ["waiting", "newcomer"]


async def test_full_queue_refuses_at_once() -> None:
    """One runs, two wait, the fourth is told; when one has gone there is room again."""
    places = queue(waiting=2)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(places.place())
        waiting = [asyncio.create_task(_hold(places)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            places.check_room()
        with pytest.raises(OverloadedError):
            await _hold(places)
        waiting[0].cancel()
        await asyncio.sleep(0)
        places.check_room()
    await waiting[1]


async def test_wait_has_an_end() -> None:
    """Whoever waited too long is refused, and leaves no trace in the queue."""
    places = queue(max_wait_s=0.01)
    async with places.place():
        with pytest.raises(OverloadedError, match=r"within 0\.01 seconds"):
            await _hold(places)
    await _hold(places)


async def test_place_that_is_handed_to_one_who_leaves_goes_to_the_next() -> None:
    """Cancelled in the moment in which its turn comes, a request loses no place for the others."""
    places = queue()
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(places.place())
        leaving, staying = asyncio.create_task(_hold(places)), asyncio.create_task(_hold(places))
        await asyncio.sleep(0)
        await stack.aclose()
        leaving.cancel()
        async with asyncio.timeout(30):
            await staying
    assert leaving.cancelled()


async def test_failure_frees_the_place() -> None:
    places = queue(waiting=0)
    with pytest.raises(ZeroDivisionError):
        async with places.place():
            _ = 1 / 0
    await _hold(places)


async def _hold(places: WorkQueue) -> None:
    async with places.place():
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("method", "path", "work"),
    [
        ("POST", "/v1/chat/completions", "generate"),
        ("GET", "/v1/chat/completions", None),
        ("POST", "/v1/responses", "generate"),
        ("POST", "/v1/responses/resp_1/cancel", None),
        ("POST", "/v1/completions", "generate"),
        ("POST", "/v1/embeddings", "search"),
        ("POST", "/v2/rerank", "search"),
        ("POST", "/v1/vector_stores/docs/search", "search"),
        ("POST", "/v1/vector_stores/docs", None),
        ("POST", "/v1/files", "upload"),
        ("POST", "/v1/uploads/up_1/parts", "upload"),
        ("DELETE", "/v1/files/file_1", None),
    ],
)
def test_kinds_of_work(method: str, path: str, work: str | None) -> None:
    assert work_of(method, path) == work


@pytest.fixture
def busy(settings: Settings, scripted_engine: StartEngine) -> Iterator[tuple[httpx.Client, str]]:
    """A server with one place, taken by a stream whose engine says nothing, and nowhere to wait; and the engine's address."""
    limited = with_limits(settings, generate_running=1, generate_waiting=0)
    with (
        scripted_engine(time_to_first_token_s=600) as engine,
        running_server(limited, engine=engine) as client,
        contextlib.closing(_send(client, "POST", "/v1/chat/completions", {**CHAT, "stream": True})),
    ):
        _wait_for(engine, "running", 1)
        yield client, engine


def _send(client: httpx.Client, method: str, path: str, body: Any) -> socket.socket:
    """Send a request and do not wait for the answer."""
    request = client.build_request(method, path, json=body)
    url = urlsplit(str(client.base_url))
    connection = socket.create_connection((url.hostname, url.port), timeout=30)
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    connection.sendall(f"{head}content-length: {len(request.content)}\r\n\r\n".encode() + request.content)
    return connection


def _wait_for(engine: str, name: str, value: int) -> None:
    for _ in range(3000):
        if httpx.get(engine.replace("/v1", "/scripted/stats"), trust_env=False).json()[name] == value:
            return
        time.sleep(0.01)
    raise AssertionError(name)


def test_overload_is_503_before_the_body_and_stops_nothing_else(busy: tuple[httpx.Client, str]) -> None:
    """Refused without the body having been sent; searches and everything else go on."""
    client, _ = busy
    url = urlsplit(str(client.base_url))
    with socket.create_connection((url.hostname, url.port), timeout=30) as connection:
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        connection.sendall(f"{head}content-length: 1000\r\n\r\n".encode())
        answer = connection.recv(65_536).decode()

    assert answer.startswith("HTTP/1.1 503")
    assert "retry-after: " in answer
    assert "x-should-retry: true" in answer
    assert '"code": "overloaded"' in answer
    assert client.get("/v1/models").status_code == 200
    assert client.post("/v1/rerank", json={"query": "a", "documents": ["a"]}).status_code == 200


def test_place_is_held_until_the_stream_ends(settings: Settings, scripted_engine: StartEngine) -> None:
    """While a stream is read there is no room; after its end, and after a client went away, there is."""
    limited = with_limits(settings, generate_running=1, generate_waiting=0)
    with scripted_engine(answer="word " * 100, tokens_per_s=200) as engine, running_server(limited, engine=engine) as client:
        with client.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as response:
            lines = response.iter_lines()
            next(lines)
            during = client.post("/v1/chat/completions", json=CHAT).status_code
            for _ in lines:
                pass
        after = client.post("/v1/chat/completions", json={**CHAT, "max_tokens": 1}).status_code
        with client.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as response:
            next(response.iter_lines())
        _wait_for(engine, "aborted", 1)
        for _ in range(3000):
            last = client.post("/v1/chat/completions", json={**CHAT, "max_tokens": 1}).status_code
            if last == 200:
                break

    assert (during, after, last) == (503, 200, 200)


def test_one_who_waits_and_goes_away_leaves_the_queue(busy: tuple[httpx.Client, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its place to wait is free for another one, and the engine never hears of it."""
    client, engine = busy
    monkeypatch.setattr(WorkQueue, "check_room", lambda _: None)
    with contextlib.closing(_send(client, "POST", "/v1/chat/completions", CHAT)):
        _wait_for_metric(client, 'rag_queue_waiting{queue="generate"} 1.0')
    _wait_for_metric(client, 'rag_queue_waiting{queue="generate"} 0.0')

    assert httpx.get(engine.replace("/v1", "/scripted/stats"), trust_env=False).json()["requests"] == 1


def _wait_for_metric(client: httpx.Client, line: str) -> None:
    for _ in range(3000):
        if line in client.get("/metrics").text.splitlines():
            return
        time.sleep(0.01)
    raise AssertionError(line)
