"""What a chat request asks of the engine reaches it as it was sent, and what the engine answers comes back as OpenAI's."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, get_type_hints

import httpx
import openai
import pydantic
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk, completion_create_params
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from rag_server.config import Settings
from rag_server.protocols import Embedder
from tests.conftest import running_server, served
from tests.live import Live, live_server

QUESTION = "How many hours a day do cats sleep?"
MESSAGES = [{"role": "user", "content": QUESTION}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}
# A value for every field of OpenAI's request; those of this server are not the engine's.
FIELDS: dict[str, Any] = {
    "messages": [
        {"role": "developer", "content": "Be brief.", "name": "me"},
        {
            "role": "user",
            "content": [{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": {"url": "data:,"}}],
        },
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "sixteen"},
        {"role": "user", "content": "So?", "unknown": {"a": [1, 2.5, None, True]}},
    ],
    "model": "scripted",
    "audio": {"voice": "alloy", "format": "wav"},
    "frequency_penalty": 0.5,
    "function_call": "none",
    "functions": [{"name": "f"}],
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "max_completion_tokens": 100,
    "max_tokens": 90,
    "modalities": ["text"],
    "moderation": {"model": "omni-moderation-latest"},
    "n": 2,
    "parallel_tool_calls": False,
    "prediction": {"type": "content", "content": "Cats"},
    "presence_penalty": 1,
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "implicit"},
    "prompt_cache_retention": "24h",
    "reasoning_effort": "low",
    "response_format": {"type": "text"},
    "safety_identifier": "s",
    "seed": -5,
    "service_tier": "auto",
    "stop": ["never"],
    "stream_options": {"include_usage": True, "include_obfuscation": False, "unknown": 1},
    "temperature": 0,
    "tool_choice": "auto",
    "tools": [WEATHER],
    "top_logprobs": 2,
    "top_p": 0.9,
    "user": "u",
    "verbosity": "low",
    "web_search_options": {"search_context_size": "low"},
}
OURS = {"store": False, "metadata": {"a": "b"}}
VLLM = {
    "top_k": 20,
    "min_p": 0.1,
    "structured_outputs": {"regex": "a+"},
    "chat_template_kwargs": {"enable_thinking": False},
    "priority": 3,
    "cache_salt": "x",
    "ünknown": ["\u0000", "\U0001f600", 1e300, -0.5, {}],
}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """One server with a collection; what its engine is sent is kept."""
    with live_server(tmp_path_factory.mktemp("passthrough"), embedder) as server:
        store = server.create("docs")
        server.attach(store, server.upload("cats.md", "# Cats\n\nCats sleep for sixteen hours a day."))
        server.index_waiting()
        yield server


def sent(live: Live) -> Any:
    """The last body that the engine was sent."""
    return json.loads(next(body for body in reversed(live.engine.sent) if body))


def test_values_are_there_for_every_field_of_openai() -> None:
    """The table above names each field of OpenAI's request, so that the test below tries each."""
    hints = get_type_hints(completion_create_params.CompletionCreateParamsBase)

    assert set(hints) == {*FIELDS, *OURS}


@pytest.mark.parametrize("name", sorted({*FIELDS, *VLLM} - {"model", "messages"}))
def test_field_reaches_the_engine_alone(live: Live, name: str) -> None:
    """Each field arrives with the very value, and nothing else is added."""
    request = {"model": "scripted", "messages": MESSAGES, name: {**FIELDS, **VLLM}[name]}

    response = live.client.post("/v1/chat/completions", json=request)

    assert response.status_code == 200, response.text
    assert sent(live) == request


@pytest.mark.parametrize("stream", [False, True])
def test_all_fields_reach_the_engine_together(live: Live, *, stream: bool) -> None:
    """With every field at once the engine gets all of them but this server's own."""
    request = {**FIELDS, **VLLM, "stream": stream}

    response = live.client.post("/v1/chat/completions", json={**request, **OURS})

    assert response.status_code == 200, response.text
    assert sent(live) == request


def test_fields_reach_the_engine_beside_documents(live: Live) -> None:
    """With a collection only the model and the messages are others."""
    request = {**FIELDS, **VLLM, "model": "rag/docs", "rag": {"num_passages": 1}}

    response = live.client.post("/v1/chat/completions", json={**request, **OURS})

    assert response.status_code == 200, response.text
    received = sent(live)
    assert {**received, "messages": 0, "model": 0, "rag": 0} == {**request, "messages": 0, "model": 0, "rag": 0}
    assert received["model"] == "scripted"
    assert "Cats sleep for sixteen hours a day." in json.dumps(received["messages"])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"n": "2"}, "n"),
        ({"n": True}, "n"),
        ({"n": 2.0}, "n"),
        ({"stream": "true"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**18}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"max_completion_tokens": "9"}, "max_completion_tokens"),
        ({"logprobs": 1}, "logprobs"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": -1}, "top_logprobs"),
        ({"prompt_logprobs": -1}, "prompt_logprobs"),
        ({"store": "yes"}, "store"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {"a": "x" * 513}}, "metadata.a"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ({"model": 5}, "model"),
        ({"model": ""}, "model"),
        ({"messages": MESSAGES * 2049}, "messages"),
        ({"messages": [{"role": "user", "content": "x" * 4_000_001}]}, "messages"),
        ({"messages": [{"content": "x"}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0"),
        ({"messages": ["x"]}, "messages.0"),
        ({"messages": {}}, "messages"),
        ({"rag": []}, "rag"),
        ({"model": "rag/docs", "messages": [{"role": "user", "content": "x" * 100_001}]}, "messages"),
    ],
)
def test_what_is_beyond_its_bounds_does_not_reach_the_engine(live: Live, fields: dict, param: str) -> None:
    """What is of the wrong type or costs too much is 400 and names the field; the engine hears nothing of it."""
    before = len(live.engine.sent)

    response = live.client.post("/v1/chat/completions", json={"model": "scripted", "messages": MESSAGES, **fields})

    error = response.json()["error"]
    assert (response.status_code, error["param"], error["type"]) == (400, param, "invalid_request_error")
    assert len(live.engine.sent) == before


def strictly(model: type[pydantic.BaseModel], value: Any) -> None:
    """Check a wire object by OpenAI's own types: every field that they demand is there, and of its type.

    Annotations of files are this server's own in chat completions; OpenAI has them in responses.
    """
    for choice in value["choices"]:
        message = choice.get("message") or choice["delta"]
        if "annotations" in message:
            message["annotations"] = [found for found in message["annotations"] if found["type"] != "file_citation"]
    model.model_validate(value, strict=True)


@pytest.mark.parametrize("model", ["scripted", "rag/docs"])
@pytest.mark.parametrize("fields", [{}, {"n": 2}, {"logprobs": True, "top_logprobs": 2}, {"tools": [WEATHER]}])
def test_answers_have_the_shape_of_openai(live: Live, model: str, fields: dict) -> None:
    """Whole answers and chunks fit OpenAI's types, with and without documents."""
    request = {"model": model, "messages": MESSAGES, **fields}

    whole = live.client.post("/v1/chat/completions", json=request).json()
    streamed = live.client.post("/v1/chat/completions", json={**request, "stream": True})

    strictly(ChatCompletion, whole)
    assert "refusal" in whole["choices"][0]["message"]
    for line in streamed.text.split("\n\n")[:-2]:
        strictly(ChatCompletionChunk, json.loads(line.removeprefix("data: ")))


def test_usage_is_null_until_the_last_chunk(live: Live) -> None:
    """With include_usage every chunk has the field, and only the last, which has no choices, a value."""
    options = {"stream": True, "stream_options": {"include_usage": True}}

    text = live.client.post("/v1/chat/completions", json={"model": "scripted", "messages": MESSAGES, **options}).text

    chunks = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n")[:-2]]
    assert {chunk["usage"] for chunk in chunks[:-1]} == {None}
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] > 0


@pytest.mark.parametrize("model", ["scripted", "rag/docs"])
async def test_official_client_calls_tools(live: Live, model: str) -> None:
    """The client of OpenAI gets a tool call, whole and streamed, and answers with the tool's result."""
    messages: list[Any] = [{"role": "user", "content": 'Please call weather with {"place": "Köln"}'}]
    request: Any = {"model": model, "messages": messages, "tools": [WEATHER]}
    async with openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="none") as client:
        whole = await client.chat.completions.create(**request)
        async with client.chat.completions.stream(**request) as stream:
            final = await stream.get_final_completion()
        call = whole.choices[0].message.tool_calls[0]
        after = [*messages, whole.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "It rains."}]
        answer = await client.chat.completions.create(model="scripted", messages=after, tools=[WEATHER])

    for found in (whole, final):
        (called,) = found.choices[0].message.tool_calls
        assert (called.function.name, json.loads(called.function.arguments)) == ("weather", {"place": "Köln"})
        assert found.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.content == "The tool said: It rains."


def test_official_client_parses_structured_outputs(live: Live) -> None:
    """A pydantic model goes to the engine as a schema, and the answer comes back as its instance."""

    class Stay(pydantic.BaseModel):
        hours: int
        kind: str

    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none") as client:
        answer = client.chat.completions.parse(model="scripted", messages=MESSAGES, response_format=Stay)

    assert answer.choices[0].message.parsed == Stay(hours=0, kind="scripted")
    assert sent(live)["response_format"]["json_schema"]["name"] == "Stay"


Answer = Callable[[Request], Response]


@pytest.fixture
def engine_answering(settings: Settings) -> Callable[[Answer], Any]:
    """Start a server whose engine gives that answer to every question."""

    def start(answer: Answer) -> Any:
        async def endpoint(request: Request) -> Response:
            return answer(request)

        app = Starlette(routes=[Route("/{path:path}", endpoint, methods=["GET", "POST"])])

        class Started:
            def __enter__(self) -> httpx.Client:
                self._engine = served(app)
                self._server = running_server(settings, engine=f"{self._engine.__enter__()}/v1")
                return self._server.__enter__()

            def __exit__(self, *error: object) -> None:
                self._server.__exit__(*error)
                self._engine.__exit__(*error)

        return Started()

    return start


def ask(client: httpx.Client, **fields: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json={"model": "m", "messages": MESSAGES, **fields})


def test_sparse_answer_of_an_engine_is_completed(engine_answering: Callable) -> None:
    """What an engine leaves out and OpenAI demands is there; what it says beyond that stays."""
    sparse = {"choices": [{"message": {"content": "x", "odd": 1}}, {"message": {"tool_calls": [{"id": "c"}]}}], "extra": [1]}
    with engine_answering(lambda _: JSONResponse(sparse)) as client:
        answer = ask(client).json()

    first, second = answer["choices"]
    assert answer["object"] == "chat.completion"
    assert answer["id"].startswith("chatcmpl-")
    assert (answer["model"], answer["extra"]) == ("m", [1])
    assert first == {
        "index": 0,
        "message": {"role": "assistant", "content": "x", "refusal": None, "odd": 1},
        "logprobs": None,
        "finish_reason": "stop",
    }
    assert (second["index"], second["finish_reason"], second["message"]["content"]) == (1, "tool_calls", None)


def test_sparse_stream_of_an_engine_is_completed(engine_answering: Callable) -> None:
    """Chunks get one id, a time and the model, and tool calls without an index are numbered by their ids."""
    calls = [{"id": "a", "function": {"name": "f"}}, {"id": "b", "function": {"name": "g"}}]
    events = [
        {"choices": [], "object": ""},
        {"choices": [{"delta": {"tool_calls": [calls[0]]}}]},
        {"choices": [{"delta": {"tool_calls": [calls[1], {"function": {"arguments": "{}"}}]}}]},
        {"choices": [{"delta": None, "finish_reason": "tool_calls", "logprobs": {"content": []}}]},
    ]

    def answer(_: Request) -> Response:
        lines = [f"data: {json.dumps(event)}\n\n" for event in events]
        return Response("".join([*lines, "data: [DONE]\n\n"]), media_type="text/event-stream")

    with engine_answering(answer) as client:
        text = ask(client, stream=True).text

    chunks = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n")[:-2]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    parts = [call for chunk in chunks for choice in chunk["choices"] for call in choice["delta"].get("tool_calls", [])]
    assert [part["index"] for part in parts] == [0, 1, 1]
    assert chunks[-1]["choices"] == [
        {"index": 0, "delta": {}, "finish_reason": "tool_calls", "logprobs": {"content": [], "refusal": None}}
    ]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            {
                "error": {
                    "message": "too long: maximum context length is 9",
                    "type": "BadRequestError",
                    "param": None,
                    "code": 400,
                }
            },
            ("too long: maximum context length is 9", "invalid_request_error", None, "context_length_exceeded"),
        ),
        (
            {"object": "error", "message": "bad", "type": "BadRequestError", "param": "n", "code": 400},
            ("bad", "invalid_request_error", "n", None),
        ),
        ({"detail": "bad"}, ("bad", "invalid_request_error", None, None)),
        ({"error": "bad"}, ("bad", "invalid_request_error", None, None)),
        ({"error": {"message": "b", "type": "my_type", "code": "c"}}, ("b", "my_type", None, "c")),
        (["odd"], ("the engine refused the request with status 400", "invalid_request_error", None, None)),
    ],
)
def test_refusal_of_an_engine_is_an_error_of_openai(
    engine_answering: Callable, told: Any, expected: tuple, *, stream: bool
) -> None:
    """Whatever shape an engine refuses in, the client gets its status and OpenAI's four fields."""
    with engine_answering(lambda _: JSONResponse(told, status_code=400)) as client:
        response = ask(client, stream=stream)

    assert response.status_code == 400
    assert response.json() == {"error": dict(zip(("message", "type", "param", "code"), expected, strict=True))}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [401, 500, 502])
def test_faults_of_an_engine_tell_nothing_internal(engine_answering: Callable, status: int, *, stream: bool) -> None:
    """What goes wrong inside is this server's fault, and neither addresses nor the engine's words reach the client."""
    with engine_answering(lambda _: Response("Traceback at http://10.1.2.3:8000", status_code=status)) as client:
        response = ask(client, stream=stream)

    assert response.status_code >= 500
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert not any(word in response.text for word in ("Traceback", "10.1.2.3", "127.0.0.1"))


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"error": {"message": "CUDA at /opt/x", "type": "InternalServerError", "code": 500}}, None),
        ({"error": {"message": "Token limit reached", "code": 400}, "choices": []}, "Token limit reached"),
    ],
)
def test_error_in_mid_stream_is_an_event_and_the_end(engine_answering: Callable, event: dict, expected: str | None) -> None:
    """After the first tokens an error is the last event, without [DONE]; the engine's own faults stay in the log."""

    def answer(_: Request) -> Response:
        async def lines() -> AsyncIterator[str]:
            yield f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': 'x'}}]})}\n\n"
            yield f"data: {json.dumps(event)}\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream")

    with engine_answering(answer) as client:
        response = ask(client, stream=True)

    lines = [line for line in response.text.split("\n\n") if line]
    error = json.loads(lines[-1].removeprefix("data: "))["error"]
    assert response.status_code == 200
    assert len(lines) == 2
    assert set(error) == {"message", "type", "param", "code"}
    assert "CUDA" not in response.text
    if expected is not None:
        assert error["message"] == expected


@pytest.mark.parametrize(
    "answer", [{}, {"choices": None}, {"choices": [1]}, {"choices": [{}]}, {"choices": [{"message": {"content": [1]}}]}]
)
def test_answer_that_is_none_is_a_bad_gateway(engine_answering: Callable, answer: dict) -> None:
    """An engine that answers something else than a completion is 502, not a broken answer."""
    with engine_answering(lambda _: JSONResponse(answer)) as client:
        response = ask(client)

    assert (response.status_code, response.json()["error"]["code"]) == (502, "engine_protocol_error")
