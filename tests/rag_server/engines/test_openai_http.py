"""The engine client against a scripted engine and small servers that misbehave."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, aclosing, asynccontextmanager

import pytest
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from rag_server.api.errors import error_headers
from rag_server.engines.openai_http import OpenAIHttpEngine
from rag_server.errors import ConfigError, EngineProtocolError, EngineRequestError, EngineUnavailableError
from rag_server.usage import PROMPT_CACHE_TOKENS
from tests.conftest import served

StartEngine = Callable[..., AbstractContextManager[str]]
MESSAGES = [{"role": "user", "content": "one two three"}]


@asynccontextmanager
async def answering(answer: Callable[[Request], Response]) -> AsyncIterator[tuple[OpenAIHttpEngine, list[dict]]]:
    """An engine whose every endpoint gives that answer, and the bodies that it was sent."""
    bodies: list[dict] = []

    async def endpoint(request: Request) -> Response:
        content = await request.body()
        bodies.append({"path": request.url.path, "key": request.headers.get("authorization"), **json.loads(content or b"{}")})
        return answer(request)

    app = Starlette(routes=[Route("/{path:path}", endpoint, methods=["GET", "POST"])])
    with served(app) as url:
        async with aclosing(OpenAIHttpEngine(lambda: f"{url}/v1", api_key="secret")) as engine:
            yield engine, bodies


async def test_every_field_reaches_the_engine() -> None:
    """A request's fields arrive as they are, unknown ones too, and what the engine answers comes back as it is."""
    body = {"model": "m", "messages": MESSAGES, "seed": 7, "structured_outputs": {"regex": "a+"}, "anything": [1, None]}
    message = {"role": "robot", "content": "x", "refusal": "no", "surprise": 1}
    choice = {"index": 3, "message": message, "logprobs": None, "finish_reason": "abort", "stop_reason": 5}
    answer = {"id": "a", "object": "o", "created": 1, "model": "n", "choices": [choice], "usage": {"odd": 1}, "extra": None}
    async with answering(lambda _: JSONResponse(answer)) as (engine, bodies):
        received = await engine.chat(body)

    assert received == answer
    assert bodies == [{"path": "/v1/chat/completions", "key": "Bearer secret", **body}]


async def test_text_and_embeddings_have_their_own_paths() -> None:
    """Text completions and embeddings go where OpenAI has them."""
    async with answering(lambda _: JSONResponse({"choices": [], "data": [1]})) as (engine, bodies):
        await engine.complete({"prompt": "p", "model": "m"})
        embedded = await engine.embed({"input": "i", "model": "m"})

    assert embedded == {"choices": [], "data": [1]}
    assert [body["path"] for body in bodies] == ["/v1/completions", "/v1/embeddings"]


async def test_counts_tokens_as_the_engine_does(scripted_engine: StartEngine) -> None:
    """Where the engine counts tokens, its count is used."""
    with scripted_engine() as url:
        async with aclosing(OpenAIHttpEngine(lambda: url)) as engine:
            assert await engine.count_tokens("scripted", MESSAGES) == 3


async def test_estimates_tokens_where_the_engine_cannot_count() -> None:
    """An endpoint without /tokenize gets an estimate that is not below the real count, and is asked only once."""
    text = "The quick brown fox jumps over the lazy dog. " * 20
    async with answering(lambda _: PlainTextResponse("no", status_code=404)) as (engine, bodies):
        counts = [await engine.count_tokens("m", [{"role": "user", "content": text}]) for _ in range(2)]

    assert counts[0] == counts[1] >= 20 * 10
    assert len(bodies) == 1


async def test_context_length_as_told_configured_or_assumed(scripted_engine: StartEngine) -> None:
    """The context length is what is configured, else what the engine tells, else 8,192."""
    with scripted_engine(context_length=1234) as url:
        async with aclosing(OpenAIHttpEngine(lambda: url)) as engine:
            assert await engine.context_length("scripted") == 1234
            assert await engine.context_length("another") == 8192
        async with aclosing(OpenAIHttpEngine(lambda: url, context_length=99)) as engine:
            assert await engine.context_length("scripted") == 99


async def test_adapter_has_the_context_of_its_model(scripted_engine: StartEngine) -> None:
    """vLLM tells the context length of a model, and of an adapter only to which model it belongs."""
    with scripted_engine(context_length=1234, adapters={"mine": None}) as url:
        async with aclosing(OpenAIHttpEngine(lambda: url)) as engine:
            assert await engine.context_length("mine") == 1234
            assert await engine.default_model() == "scripted"


async def test_default_model_is_configured_or_the_first(scripted_engine: StartEngine) -> None:
    """Without a configured model the engine's first one answers."""
    with scripted_engine() as url:
        async with aclosing(OpenAIHttpEngine(lambda: url)) as engine:
            assert await engine.default_model() == "scripted"
        async with aclosing(OpenAIHttpEngine(lambda: url, model="mine")) as engine:
            assert await engine.default_model() == "mine"


@pytest.mark.parametrize("status", [400, 403, 404, 422, 429, 500, 501])
async def test_refusals_are_handed_on_untried_again(status: int) -> None:
    """What another try cannot change is not tried again, and keeps its status; the engine's own faults are not told."""
    told = {"error": {"message": "no, at 10.0.0.7", "type": "some_type", "param": None, "code": "c"}}
    async with answering(lambda _: JSONResponse(told, status_code=status)) as (engine, bodies):
        with pytest.raises(EngineRequestError) as caught:
            await engine.chat({})

    assert caught.value.status == status
    assert len(bodies) == 1
    if status < 500:
        assert caught.value.body == told
    else:
        assert "10.0.0.7" not in json.dumps(caught.value.body) + str(caught.value)


async def test_engines_limit_says_when_to_come_back() -> None:
    """A 429 is handed on with its `retry-after`."""
    limited = JSONResponse({}, status_code=429, headers={"retry-after": "17"})
    async with answering(lambda _: limited) as (engine, _):
        with pytest.raises(EngineRequestError) as caught:
            await engine.chat({})

    assert error_headers(caught.value) == {"retry-after": "17"}


ODD_NUMBERS = {"a": [float("nan"), float("inf"), 1.5], "b": "half \ud83d", "c": "whole \U0001f600", "d": "1e999"}
READ_NUMBERS = {"a": [None, None, 1.5], "b": "half \ufffd", "c": "whole \U0001f600", "d": "1e999", "e": None, "f": 1e308}


async def test_what_no_json_can_say_is_read_as_nothing() -> None:
    """NaN, numbers beyond a float and half characters of an engine's answer end neither the answer nor the stream."""
    content = f'{json.dumps(ODD_NUMBERS)[:-1]}, "e": -1e999, "f": 1e308}}'
    streamed = PlainTextResponse(f"data: {content}\n\ndata: [DONE]\n\n")
    async with answering(lambda _: PlainTextResponse(content)) as (engine, _):
        answer = await engine.embed({"model": "m"})
    async with answering(lambda _: streamed) as (engine, _):
        chunks = [chunk async for chunk in engine.stream_complete({"model": "m"})]

    assert answer == READ_NUMBERS
    assert [{name: chunk[name] for name in READ_NUMBERS} for chunk in chunks] == [READ_NUMBERS]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
async def test_lines_of_a_stream_end_where_the_standard_ends_them(end: str) -> None:
    """What JSON may hold as it is, and Python takes for the end of a line, is a part of the text."""
    said = "one\u2028two\x85three\u2029four \U0001f600"
    event = json.dumps({"choices": [{"index": 0, "text": said}]}, ensure_ascii=False)
    stream = f": a comment{end}data: {event}{end}{end}data:{event}{end}{end}data: [DONE]{end}{end}"
    async with answering(lambda _: PlainTextResponse(stream)) as (engine, _):
        chunks = [chunk async for chunk in engine.stream_complete({"model": "m"})]

    assert [chunk["choices"][0]["text"] for chunk in chunks] == [said, said]


async def test_engine_that_wants_another_key_is_a_setting() -> None:
    """401 is about this server's key, not the client's, who could do nothing about it."""
    async with answering(lambda _: JSONResponse({}, status_code=401)) as (engine, _):
        with pytest.raises(ConfigError, match="RAG_ENGINE__API_KEY"):
            await engine.chat({})


async def test_overload_is_tried_three_times_and_then_told() -> None:
    """503 is tried again; in the end the client is told when to come back, as the engine said."""
    overload = JSONResponse({}, status_code=503, headers={"retry-after": "17"})
    async with answering(lambda _: overload) as (engine, bodies):
        with pytest.raises(EngineUnavailableError) as caught:
            await engine.chat({})

    assert caught.value.retry_after_s == 17
    assert len(bodies) == 3


async def test_what_the_engine_has_to_answer_is_counted(scripted_engine: StartEngine) -> None:
    """One more from the request to the end of its answer, also where the client stops in the middle or the engine refuses."""
    body = {"model": "scripted", "messages": MESSAGES}
    with scripted_engine() as url:
        async with aclosing(OpenAIHttpEngine(lambda: url)) as engine:
            async with aclosing(engine.stream_chat({**body, "stream": True})) as chunks:
                await anext(chunks)
                during = engine.num_asked
            stopped = engine.num_asked
            await engine.chat(body)
            with pytest.raises(EngineRequestError):
                await engine.chat({**body, "model": "unknown"})

    assert (during, stopped, engine.num_asked) == (1, 0, 0)


async def test_broken_stream_is_never_tried_again(scripted_engine: StartEngine) -> None:
    """A stream that breaks off after its first tokens is an error; the tokens are not streamed twice."""
    pieces = []
    with scripted_engine(break_after_tokens=2) as url:
        async with aclosing(OpenAIHttpEngine(lambda: url)) as engine:
            with pytest.raises(EngineProtocolError, match="broke off"):
                async for chunk in engine.stream_chat({"model": "scripted", "messages": MESSAGES, "stream": True}):
                    pieces += [choice["delta"].get("content") for choice in chunk["choices"]]

    assert pieces == ["", "You", " said:"]


@pytest.mark.parametrize(
    "stream",
    ["data: nonsense\n\n", "data: [1]\n\n", 'data: {"error": {"message": "out of memory"}}\n\n', ": nothing\n\n", ""],
)
async def test_malformed_stream_is_a_protocol_error(stream: str) -> None:
    """Whatever is no stream of JSON objects up to [DONE] is a named error."""
    async with answering(lambda _: Response(stream, media_type="text/event-stream")) as (engine, _):
        with pytest.raises(EngineProtocolError):
            _ = [chunk async for chunk in engine.stream_chat({})]


@pytest.mark.parametrize("content", ["", "x", "[]", '"x"'])
async def test_malformed_answer_is_a_protocol_error(content: str) -> None:
    """An answer that is no JSON object is a named error."""
    async with answering(lambda _: Response(content)) as (engine, _):
        with pytest.raises(EngineProtocolError):
            await engine.chat({})


async def test_unreachable_engine_is_unavailable() -> None:
    """A port where nothing listens is a named error; the address is in the log, which clients do not read."""
    with structlog.testing.capture_logs() as logged:
        async with aclosing(OpenAIHttpEngine(lambda: "http://user:password@127.0.0.1:9/v1")) as engine:
            with pytest.raises(EngineUnavailableError) as caught:
                await engine.models()

    assert "127.0.0.1" not in str(caught.value)
    assert logged[0]["url"] == "http://127.0.0.1:9/v1"


async def test_request_defaults_give_way_to_the_request() -> None:
    """Defaults for a model fill what a request leaves open and nothing else."""
    async with answering(lambda _: JSONResponse({"choices": []})) as (engine, bodies):
        engine._request_defaults = {"frequency_penalty": 0.3}
        await engine.chat({})
        await engine.chat({"frequency_penalty": 0})

    assert [body["frequency_penalty"] for body in bodies] == [0.3, 0]


def prompt_cache() -> tuple[float, float]:
    """Return how many tokens of prompts were found in the engine's cache so far, and how many not."""
    found = {outcome: PROMPT_CACHE_TOKENS.labels(outcome)._value.get() for outcome in ("hit", "miss")}
    return found["hit"], found["miss"]


async def test_tokens_in_the_engines_cache_are_counted_once() -> None:
    """Of a whole answer, and of a stream, though its every chunk tells the usage so far."""
    usage = {"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 8}}
    chunk = json.dumps({"choices": [], "usage": usage})
    before = prompt_cache()
    async with answering(lambda _: JSONResponse({"choices": [], "usage": usage})) as (engine, _):
        await engine.chat({"model": "m"})
    async with answering(lambda _: PlainTextResponse(f"data: {chunk}\n\n" * 3 + "data: [DONE]\n\n")) as (engine, _):
        assert [part["usage"] async for part in engine.stream_chat({"model": "m"})] == [usage] * 3

    assert [now - then for now, then in zip(prompt_cache(), before, strict=True)] == [16, 4]


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        {"prompt_tokens": 5},
        {"prompt_tokens": 5, "prompt_tokens_details": None},
        {"prompt_tokens": 5, "prompt_tokens_details": [1]},
        {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": None}},
        {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 6}},
        {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": -1}},
        {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": "2"}},
    ],
)
async def test_an_engine_that_does_not_tell_is_not_counted(usage: object) -> None:
    """Neither as found nor as missed, and its answer comes through."""
    before = prompt_cache()
    async with answering(lambda _: JSONResponse({"choices": [], "usage": usage})) as (engine, _):
        answer = await engine.chat({"model": "m"})

    assert answer["usage"] == usage
    assert prompt_cache() == before
