"""Several engines behind one client: who gets which request, and that one that is away costs no request."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, aclosing, asynccontextmanager

import httpx
import pytest
import structlog

from eval.bench.tools import free_port
from rag_server.engines import replicas
from rag_server.engines.addresses import addresses_in, url_at, without_password
from rag_server.engines.engine_load import EngineLoad, EngineMetrics
from rag_server.engines.openai_http import OpenAIHttpEngine
from rag_server.engines.replicas import ASKED, RUNNING, Replicas
from rag_server.errors import EngineUnavailableError
from rag_server.protocols import Json

StartEngine = Callable[..., AbstractContextManager[str]]
NOBODY = "http://127.0.0.1:9/v1"
HEADERS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
MODELS = b'HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{"data":[]}'
OVERLOADED = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n"


def asked(text: str, *, stream: bool = False) -> Json:
    return {"model": "scripted", "messages": [{"role": "user", "content": text}], "stream": stream}


@asynccontextmanager
async def client_of(*addresses: str) -> AsyncIterator[OpenAIHttpEngine]:
    async with aclosing(OpenAIHttpEngine(lambda: ", ".join(addresses))) as engine:
        yield engine


@asynccontextmanager
async def answering(
    answer: bytes, *, port: int = 0, after: asyncio.Event | None = None
) -> AsyncIterator[tuple[str, list[str]]]:
    """An engine that sends these bytes to whoever asks, and hangs up; give its address and the paths that it was asked for."""
    paths: list[str] = []
    handling: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            handling.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
            await answered(reader, writer)

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        paths.append(head.split()[1])
        length = next((int(line.partition(":")[2]) for line in head.splitlines() if line.startswith("content-length:")), 0)
        await reader.readexactly(length)
        if after is not None:
            await after.wait()
        writer.write(answer)
        await writer.drain()

    server = await asyncio.start_server(handle, "127.0.0.1", port)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", paths
    await asyncio.gather(*handling)


def num_asked(base_url: str) -> int:
    """How many requests a scripted engine was sent."""
    stats = httpx.get(f"{base_url.removesuffix('/v1')}/scripted/stats", trust_env=False).json()
    return int(stats["requests"])


def outcomes(number: int) -> Counter[str]:
    """What came of the requests to the engine of that number so far."""
    names = ("answered", "unreachable", "overloaded")
    return Counter({name: int(ASKED.labels(f"engine {number}", name)._value.get()) for name in names})


async def say(engine: OpenAIHttpEngine, text: str) -> str:
    return str((await engine.chat(asked(text)))["choices"][0]["message"]["content"])


async def test_conversations_keep_their_engine_and_spread_over_all(scripted_engine: StartEngine) -> None:
    """Twenty conversations of three turns: each is at one engine, and no engine has all of them."""
    with scripted_engine() as one, scripted_engine() as two:
        before, per_conversation = (0, 0), []
        async with client_of(one, two) as engine:
            for number in range(20):
                body = asked(f"question {number}")
                for _ in range(3):
                    answer = (await engine.chat(body))["choices"][0]["message"]
                    body["messages"] += [answer, {"role": "user", "content": "Go on."}]
                now = (num_asked(one), num_asked(two))
                per_conversation.append((now[0] - before[0], now[1] - before[1]))
                before = now

    assert set(per_conversation) == {(3, 0), (0, 3)}


async def test_requests_at_once_go_to_the_shortest_queue(scripted_engine: StartEngine) -> None:
    """Forty of one and the same prefix, all at once: the engine that it belongs to keeps no more than the slack."""
    with scripted_engine(time_to_first_token_s=0.5) as one, scripted_engine(time_to_first_token_s=0.5) as two:
        async with client_of(one, two) as engine:
            await asyncio.gather(*(engine.chat(asked("the same")) for _ in range(40)))
        fewer, more = sorted([num_asked(one), num_asked(two)])

    assert fewer + more == 40
    assert more <= fewer * 1.5 + 4 + 1


async def test_what_an_engine_does_for_others_counts() -> None:
    """An engine that tells of a long queue gets nothing, though this client has sent it nothing."""
    busy = b"vllm:num_requests_running 30.0\nvllm:num_requests_waiting 9.0\n"
    idle = b"vllm:num_requests_running 0.0\nvllm:num_requests_waiting 0.0\n"
    answers = (b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(told), told) for told in (busy, idle))
    async with answering(next(answers)) as (one, _), answering(next(answers)) as (two, _):
        async with aclosing(Replicas(lambda: f"{one},{two}")) as found:
            found.next(None, [])
            while found.all()[0].queue != 39:
                await asyncio.sleep(0.01)
            got = {found.next(asked(f"question {number}"), []).address for number in range(20)}
            metrics = EngineMetrics(lambda: f"{one},{two}")
            together = await metrics.read()
            await metrics.aclose()

    assert got == {two}
    assert together == EngineLoad(30, 9)


@pytest.mark.parametrize("order", [0, 1])
async def test_an_engine_that_is_away_costs_no_request(
    scripted_engine: StartEngine, monkeypatch: pytest.MonkeyPatch, order: int
) -> None:
    """Every request is answered; the one that is away is asked once, told in the log, and then left out."""
    monkeypatch.setattr(replicas, "REST_S", 3600.0)
    before, away = outcomes(order + 1), order + 1
    with scripted_engine() as there, structlog.testing.capture_logs() as logged:
        addresses = [there]
        addresses.insert(order, NOBODY)
        async with client_of(*addresses) as engine:
            said = [await say(engine, f"question {number}") for number in range(20)]

    assert said == [f"You said: question {number}" for number in range(20)]
    assert outcomes(away) - before == Counter(unreachable=1)
    assert [(entry["engine"], entry["url"]) for entry in logged if entry["log_level"] == "warning"] == [
        (f"engine {away}", NOBODY)
    ]


async def test_an_engine_that_comes_back_is_asked_again(scripted_engine: StartEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once its rest is over, one request finds out."""
    monkeypatch.setattr(replicas, "REST_S", 0.0)
    before = outcomes(1)
    # Its address is known before it is there.
    port = free_port()
    address = f"http://127.0.0.1:{port}/v1"
    with scripted_engine() as there:
        async with client_of(address, there) as engine:
            await asyncio.gather(*(engine.chat(asked(f"question {number}")) for number in range(10)))
            away = outcomes(1) - before
            async with answering(MODELS, port=port):
                faults = await engine.faults(5.0)
            back = outcomes(1) - before

    assert away["answered"] == 0
    assert away["unreachable"] > 0
    assert faults == [None, None]
    assert back["answered"] == 1


@pytest.mark.parametrize("answer", [b"", HEADERS, HEADERS[:20], OVERLOADED])
@pytest.mark.parametrize("stream", [True, False])
async def test_what_broke_before_anything_was_handed_on_goes_elsewhere(
    scripted_engine: StartEngine, monkeypatch: pytest.MonkeyPatch, answer: bytes, stream: bool
) -> None:
    """Hung up at once, after the headers of a stream, in the middle of them, or overloaded: the client gets a whole answer."""
    monkeypatch.setattr(replicas, "REST_S", 3600.0)
    with scripted_engine() as there:
        async with answering(answer) as (broken, paths), client_of(broken, there) as engine:
            said = []
            for number in range(20):
                if stream:
                    chunks = [chunk async for chunk in engine.stream_chat(asked(f"question {number}", stream=True))]
                    said.append("".join(choice["delta"].get("content") or "" for one in chunks for choice in one["choices"]))
                else:
                    said.append(await say(engine, f"question {number}"))

    assert said == [f"You said: question {number}" for number in range(20)]
    # One that refuses is left out; a connection may also break because it was idle for too long.
    tries = paths.count("/v1/chat/completions")
    assert tries == 1 if answer == OVERLOADED else tries >= 1


async def test_a_request_that_ends_engines_does_not_end_all_of_them() -> None:
    """It is tried three times in all."""
    async with (
        answering(b"") as (one, first),
        answering(b"") as (two, second),
        answering(b"") as (three, third),
        answering(b"") as (four, fourth),
        client_of(one, two, three, four) as engine,
    ):
        with pytest.raises(EngineUnavailableError):
            await engine.chat(asked("poison"))
        tries = [paths.count("/v1/chat/completions") for paths in (first, second, third, fourth)]

    assert sorted(tries) == [0, 1, 1, 1]


async def test_where_all_are_away_the_error_says_so() -> None:
    """And what an overloaded one says about coming back is handed on."""
    async with client_of(NOBODY, "http://127.0.0.1:19/v1") as engine:
        with pytest.raises(EngineUnavailableError, match="cannot be reached"):
            await engine.chat(asked("hello"))
    async with answering(OVERLOADED) as (one, _), answering(OVERLOADED) as (two, _), client_of(one, two) as engine:
        with pytest.raises(EngineUnavailableError) as caught:
            await engine.chat(asked("hello"))

    assert caught.value.retry_after_s == 7


async def test_each_engine_is_looked_at(scripted_engine: StartEngine) -> None:
    """One that is there, one that is not, one that takes the question and says nothing; the last one is left out, too."""
    done = asyncio.Event()
    with scripted_engine() as there:
        async with answering(b"", after=done) as (hangs, _), client_of(there, NOBODY, hangs) as engine:
            faults = await engine.faults(0.5)
            said = [await say(engine, f"question {number}") for number in range(10)]
            done.set()

    assert faults[0] is None
    assert "cannot be reached" in str(faults[1])
    assert "did not answer within 0.5 seconds" in str(faults[2])
    assert len(said) == num_said(said)


def num_said(said: Sequence[str]) -> int:
    return sum(text.startswith("You said: question") for text in said)


async def test_what_runs_at_each_engine_is_measured(scripted_engine: StartEngine) -> None:
    """While a stream is read, until its end, also where its reader goes away."""
    running = RUNNING.labels("engine 1")._value
    before = running.get()
    with scripted_engine() as there:
        async with client_of(there) as engine:
            async with aclosing(engine.stream_chat(asked("one two three", stream=True))) as chunks:
                await anext(chunks)
                during = running.get()
            after = running.get()

    assert (during - before, after - before) == (1, 0)


def test_addresses_as_settings_name_them() -> None:
    """Spaces and slashes at their ends are no part of them, and one that is named twice is one."""
    assert addresses_in("http://a/v1/") == ["http://a/v1"]
    assert addresses_in("http://a/v1, http://b/v1/ ,http://a/v1") == ["http://a/v1", "http://b/v1"]
    assert url_at("http://a/v1", "/chat/completions") == "http://a/v1/chat/completions"
    assert url_at("http://a/v1", "/tokenize") == "http://a/tokenize"
    assert without_password("http://user:secret@a:1/v1") == "http://a:1/v1"
