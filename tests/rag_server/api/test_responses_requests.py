"""Requests for responses: what the engine is sent for them, and what becomes of functions and formats."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from rag_server.protocols import Embedder
from tests.dialogue import ASKS_WEATHER, CHAT_WEATHER, WEATHER, checked, checked_items, refused, respond, sent_chat, text_of
from tests.live import Live, live_server

TIME = {"type": "function", "name": "time", "parameters": {"type": "object", "properties": {}}, "strict": False}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """One server; what its engine is sent is kept."""
    with live_server(tmp_path_factory.mktemp("responses"), embedder) as server:
        yield server


@pytest.fixture(scope="module")
def client(live: Live) -> Iterator[openai.OpenAI]:
    """OpenAI's own client."""
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


# Items and fields

USER = {"role": "user", "content": "Hello"}
CALL = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"}
CHAT_CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "rain"}
CHAT_OUTPUT = {"role": "tool", "tool_call_id": "c1", "content": "rain"}
MESSAGES: list[tuple[list[dict[str, Any]], list[dict[str, Any]]]] = [
    ([USER], [USER]),
    ([{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}], [USER]),
    (
        [{"role": "system", "content": "One."}, {"role": "developer", "content": "Two."}, USER],
        [{"role": "system", "content": "One.\n\nTwo."}, USER],
    ),
    (
        [USER, {"role": "developer", "content": "Now in French."}, USER],
        [USER, {"role": "system", "content": "Now in French."}, USER],
    ),
    (
        [USER, {"role": "assistant", "content": "Hi"}, USER],
        [USER, {"role": "assistant", "content": "Hi"}, USER],
    ),
    (
        [
            USER,
            {
                "type": "message",
                "id": "msg_1",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Hi", "annotations": []}, {"type": "refusal", "refusal": "No."}],
            },
            USER,
        ],
        [USER, {"role": "assistant", "content": "Hi\nNo."}, USER],
    ),
    ([USER, CALL, OUTPUT], [USER, {"role": "assistant", "content": None, "tool_calls": [CHAT_CALL]}, CHAT_OUTPUT]),
    (
        [USER, {"role": "assistant", "content": "I look."}, CALL, {**CALL, "call_id": "c2"}, OUTPUT],
        [
            USER,
            {"role": "assistant", "content": "I look.", "tool_calls": [CHAT_CALL, {**CHAT_CALL, "id": "c2"}]},
            CHAT_OUTPUT,
        ],
    ),
    (
        [USER, CALL, {**OUTPUT, "output": [{"type": "input_text", "text": "rain"}, {"type": "input_text", "text": "fog"}]}],
        [
            USER,
            {"role": "assistant", "content": None, "tool_calls": [CHAT_CALL]},
            {**CHAT_OUTPUT, "content": "rain\nfog"},
        ],
    ),
    (
        [
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]},
            {"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": ["a"]},
            USER,
        ],
        [USER],
    ),
    (
        [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is it?"},
                    {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "original"},
                    {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="},
                ],
            }
        ],
        [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "high"}},
                    {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA==", "filename": "a.pdf"}},
                ],
            }
        ],
    ),
]


@pytest.mark.parametrize(("items", "messages"), MESSAGES)
def test_items_reach_the_engine_as_messages(live: Live, items: list[dict[str, Any]], messages: list[dict[str, Any]]) -> None:
    """Each kind of item becomes what it means in a chat, and is kept as an item of OpenAI's types."""
    made = respond(live.client, items)

    assert sent_chat(live.engine.sent)["messages"] == messages
    kept = checked_items(live.client.get(f"/v1/responses/{made['id']}/input_items", params={"order": "asc"}).json())
    assert [item["type"] for item in kept] == [item.get("type", "message") for item in items]


FIELDS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"temperature": 0}, {"temperature": 0}),
    ({"top_p": 0.5}, {"top_p": 0.5}),
    ({"presence_penalty": 1.5, "frequency_penalty": -1}, {"presence_penalty": 1.5, "frequency_penalty": -1}),
    ({"max_output_tokens": 50}, {"max_tokens": 50}),
    ({"user": "u", "safety_identifier": "s"}, {"user": "u", "safety_identifier": "s"}),
    ({"prompt_cache_key": "k", "service_tier": "flex"}, {"prompt_cache_key": "k", "service_tier": "flex"}),
    ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning_effort": "low"}),
    ({"text": {"verbosity": "low"}}, {"verbosity": "low"}),
    ({"text": {"format": {"type": "text"}}}, {}),
    ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
    (
        {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": True}}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"type": "object"}, "strict": True},
            }
        },
    ),
    (
        {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
        {"logprobs": True, "top_logprobs": 2},
    ),
    ({"top_logprobs": 2}, {}),
    ({"tools": [WEATHER]}, {"tools": [CHAT_WEATHER]}),
    (
        {"tools": [WEATHER], "tool_choice": "none", "parallel_tool_calls": False},
        {"tools": [CHAT_WEATHER], "tool_choice": "none", "parallel_tool_calls": False},
    ),
    ({"tools": [WEATHER], "tool_choice": "required"}, {"tools": [CHAT_WEATHER], "tool_choice": "required"}),
    (
        {"tools": [WEATHER], "tool_choice": {"type": "function", "name": "weather"}},
        {"tools": [CHAT_WEATHER], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
    ),
    (
        {
            "tools": [TIME, WEATHER],
            "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "weather"}]},
        },
        {"tools": [CHAT_WEATHER], "tool_choice": "auto"},
    ),
    # Of vLLM; what this server does not know is the engine's.
    ({"top_k": 20, "chat_template_kwargs": {"a": 1}}, {"top_k": 20, "chat_template_kwargs": {"a": 1}}),
    # For this server alone.
    ({"metadata": {"a": "b"}, "store": True, "truncation": "disabled", "max_tool_calls": 3}, {}),
]


@pytest.mark.parametrize(("fields", "expected"), FIELDS)
def test_field_reaches_the_engine_as_chat_has_it(live: Live, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each field arrives under its name in chat, and nothing else is added; the response repeats what it repeats."""
    made = respond(live.client, "Hello", **fields)

    always = {"model": "scripted", "messages": [USER], "stream": True, "stream_options": {"include_usage": True}}
    assert sent_chat(live.engine.sent) == {**always, **expected}
    repeated = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "max_output_tokens", "user", "top_logprobs")
    repeated += ("metadata", "prompt_cache_key", "safety_identifier", "max_tool_calls", "parallel_tool_calls")
    assert {name: made[name] for name in repeated if name in fields} == {
        name: value for name, value in fields.items() if name in repeated
    }


@pytest.mark.parametrize("name", ["n", "max_tokens", "max_completion_tokens", "best_of", "logprobs", "prompt_logprobs"])
def test_bounds_cannot_be_passed_by_with_fields_of_chats(live: Live, name: str) -> None:
    """A chat completion bounds them; a response, which has them under other names or not at all, refuses them."""
    assert refused(live.client, **{name: 5000})["param"] == name


def test_null_inside_a_schema_stays(live: Live) -> None:
    """It is a value there, of functions and of formats."""
    schema = {"type": "object", "properties": {"a": {"enum": ["x", None], "default": None}}}
    tool = {"type": "function", "name": "f", "parameters": schema, "strict": None, "description": None}
    shape = {"type": "json_schema", "name": "s", "schema": schema}
    answer = respond(live.client, tools=[tool], text={"format": shape})
    sent = sent_chat(live.engine.sent)

    assert sent["tools"] == [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    assert sent["response_format"] == {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    assert answer["text"]["format"]["schema"] == schema


def test_answer_that_is_cut_is_incomplete(live: Live) -> None:
    """A response that reaches max_output_tokens says so, and so does its message."""
    made = respond(live.client, " ".join(["word"] * 40), max_output_tokens=16)

    assert (made["status"], made["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert made["output"][0]["status"] == "incomplete"
    assert made["completed_at"] is None
    assert made["usage"]["output_tokens"] == 16 == len(text_of(made).split())


def test_probabilities_are_shown_only_where_they_are_asked_for(live: Live) -> None:
    """With `include` each token has its log-probability and alternatives, when it is made and when it is read."""
    include = ["message.output_text.logprobs"]
    made = respond(live.client, "one two", include=include, top_logprobs=2)

    part = made["output"][0]["content"][0]
    assert "".join(entry["token"] for entry in part["logprobs"]) == part["text"] == "You said: one two"
    assert all(bytes(entry["bytes"]).decode() == entry["token"] for entry in part["logprobs"])
    assert {len(entry["top_logprobs"]) for entry in part["logprobs"]} == {2}
    path = f"/v1/responses/{made['id']}"
    assert live.client.get(path).json()["output"][0]["content"][0]["logprobs"] == []
    for name in ("include", "include[]"):
        assert live.client.get(path, params={name: include}).json()["output"] == made["output"]


# Functions


def test_function_is_called_and_answered(client: openai.OpenAI, live: Live) -> None:
    """OpenAI's client gets the call, gives the output by its id, and gets an answer made of it."""
    first = client.responses.create(model="scripted", input=ASKS_WEATHER, tools=[WEATHER])  # type: ignore[list-item]
    (call,) = first.output
    assert call.type == "function_call"
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "fog"}
    second = client.responses.create(model="scripted", input=[output], previous_response_id=first.id, tools=[WEATHER])  # type: ignore[list-item]

    assert (call.name, json.loads(call.arguments), call.status) == ("weather", {"place": "Utsira"}, "completed")
    assert "fog" in second.output_text
    assert [message["role"] for message in sent_chat(live.engine.sent)["messages"]] == ["user", "assistant", "tool"]
    assert checked(live.client.get(f"/v1/responses/{first.id}").json())["tools"] == [WEATHER]


def test_output_without_a_call_is_refused(live: Live) -> None:
    """An output has to follow the call that it belongs to."""
    assert refused(live.client, input=[USER, OUTPUT])["param"] == "input"


def test_several_functions_are_called_at_once(live: Live) -> None:
    """Each call is an item of its own, unless parallel calls are turned off."""
    text = f"{ASKS_WEATHER} and call time with {{}}"
    both = respond(live.client, text, tools=[WEATHER, TIME])
    one = respond(live.client, text, tools=[WEATHER, TIME], parallel_tool_calls=False)

    assert [item["name"] for item in both["output"]] == ["weather", "time"]
    assert len({item["call_id"] for item in both["output"]} | {item["id"] for item in both["output"]}) == 4
    assert [item["name"] for item in one["output"]] == ["weather"]


@pytest.mark.parametrize(
    "kind",
    ["web_search", "web_search_preview", "code_interpreter", "computer_use_preview", "image_generation", "mcp", "local_shell"],
)
def test_hosted_tool_is_refused_by_its_name(live: Live, kind: str) -> None:
    """What this server cannot run is told at once, with what it can."""
    error = refused(live.client, tools=[{"type": kind}])

    assert (error["code"], error["param"]) == ("unsupported_tool", "tools")
    assert kind in error["message"]
    assert "file_search" in error["message"]


# Structured answers


class Crossing(BaseModel):
    """What an answer is parsed into."""

    ferry: str
    minutes: int


def test_structured_answer_is_parsed(client: openai.OpenAI) -> None:
    """The parse helper of OpenAI's client gets an instance."""
    made = client.responses.parse(model="scripted", input="The next crossing?", text_format=Crossing)

    assert isinstance(made.output_parsed, Crossing)
