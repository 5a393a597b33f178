"""Streams of responses: every event by OpenAI's types, in an order that adds up to the response that was not streamed."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import httpx
import openai
import pytest

from rag_server.config import Settings
from rag_server.protocols import Embedder
from tests.conftest import running_server, served
from tests.dialogue import Json, SaidEngine, checked, chunks_of, events_of, respond, stream, text_of, types_of
from tests.live import Live, live_server

QUESTION = "How many hours a day do cats sleep?"
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}, "strict": False}
# Differ from one response to the next.
OWN = ("id", "created_at", "completed_at", "call_id", "timings_ms")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """One server with the vector store `docs`."""
    with live_server(tmp_path_factory.mktemp("streams"), embedder) as server:
        server.create("docs", file_ids=[server.upload("cats.md", "# Cats\n\nCats sleep for sixteen hours a day.")])
        server.index_waiting()
        yield server


@pytest.fixture
def said(settings: Settings) -> Iterator[Callable[..., AbstractContextManager[tuple[httpx.Client, SaidEngine]]]]:
    """Start a server whose engine says what a function returns: `with said(say) as (client, engine)`."""

    @contextlib.contextmanager
    def start(say: Callable[[Json], Sequence[Json | float]]) -> Iterator[tuple[httpx.Client, SaidEngine]]:
        engine = SaidEngine(say)
        with served(engine.app) as url, running_server(settings, engine=f"{url}/v1") as client:
            yield client, engine

    return start


def kinds(events: Sequence[Json]) -> list[str]:
    return [event["type"] for event in events]


def without_own(value: Any) -> Any:
    """A JSON value without what differs from one response to the next."""
    if isinstance(value, list):
        return [without_own(part) for part in value]
    if isinstance(value, dict):
        return {name: without_own(part) for name, part in value.items() if name not in OWN}
    return value


def rebuilt(events: Sequence[Json]) -> list[Json]:
    """The output as a client makes it of the smallest parts, without a look at what the last events hold as a whole."""
    items: dict[int, Json] = {}
    for event in events:
        if event["type"] == "response.output_item.added":
            assert event["output_index"] == len(items)
            items[event["output_index"]] = json.loads(json.dumps(event["item"]))
        elif "output_index" in event:
            put(items[event["output_index"]], event)
    return [items[index] for index in sorted(items)]


def put(item: Json, event: Json) -> None:
    """Put what an event tells into its item."""
    kind, content = event["type"], item.get("content", [])
    if kind == "response.content_part.added":
        assert event["content_index"] == len(content)
        content.append(json.loads(json.dumps(event["part"])))
    elif kind == "response.function_call_arguments.delta":
        item["arguments"] += event["delta"]
    elif kind.endswith(".delta"):
        content[event["content_index"]]["refusal" if "refusal" in kind else "text"] += event["delta"]
        content[event["content_index"]].get("logprobs", []).extend(event.get("logprobs", []))
    elif kind == "response.output_text.annotation.added":
        annotations = content[event["content_index"]]["annotations"]
        assert event["annotation_index"] == len(annotations)
        annotations.append(event["annotation"])
    elif kind == "response.output_item.done":
        # What is told at the end only.
        item |= {name: event["item"][name] for name in ("status", "queries", "results") if name in event["item"]}


REQUESTS: list[Json] = [
    {"input_": "one two three"},
    {"input_": "one two three", "instructions": "Be brief.", "temperature": 0, "metadata": {"a": "b"}},
    {"input_": "one two", "include": ["message.output_text.logprobs"], "top_logprobs": 1},
    {"input_": " ".join(["word"] * 40), "max_output_tokens": 16},
    {"input_": 'call weather with {"a": 1}', "tools": [WEATHER]},
    {"input_": 'call weather with {"a": 1} and call weather with {"a": 2}', "tools": [WEATHER]},
    {"input_": "x", "text": {"format": {"type": "json_object"}}},
    {"input_": QUESTION, "model": "rag/docs"},
    {"input_": QUESTION, "tools": [{"type": "file_search", "vector_store_ids": ["docs"]}]},
    {
        "input_": QUESTION,
        "tools": [{"type": "file_search", "vector_store_ids": ["docs"]}, WEATHER],
        "include": ["file_search_call.results"],
    },
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_stream_adds_up_to_the_whole_response(live: Live, request_: Json) -> None:
    """The parts, the last event, the stored response and the same request without streaming all say the same."""
    events = stream(live.client, **request_)
    whole = respond(live.client, **request_)

    last = events[-1]["response"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert kinds(events)[:2] == ["response.created", "response.in_progress"]
    assert events[-1]["type"] == f"response.{last['status']}"
    assert rebuilt(events) == last["output"]
    include = {"include": request_.get("include", [])}
    assert live.client.get(f"/v1/responses/{last['id']}", params=include).json() == last
    assert without_own(last) == without_own(whole)


def test_events_of_a_message_come_in_their_order(live: Live) -> None:
    """Item and part are announced, written and closed, each once."""
    found = kinds(stream(live.client, "one two"))

    assert [kind for kind in dict.fromkeys(found)] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert found.count("response.output_text.delta") == 4


def test_search_is_told_before_the_answer(live: Live) -> None:
    """The search is announced, done and closed; then comes the message, whose annotations precede its end."""
    found = kinds(stream(live.client, QUESTION, tools=[{"type": "file_search", "vector_store_ids": ["docs"]}]))

    assert found[2:8] == [
        "response.output_item.added",
        "response.file_search_call.in_progress",
        "response.file_search_call.searching",
        "response.file_search_call.completed",
        "response.output_item.done",
        "response.output_item.added",
    ]
    assert found.count("response.output_text.annotation.added") == 2
    last_annotation = len(found) - 1 - found[::-1].index("response.output_text.annotation.added")
    assert found[last_annotation + 1] == "response.output_text.done"


def test_openai_client_puts_the_parts_together(live: Live) -> None:
    """The stream helper's own sum is the stored response; obfuscation is no more than a wish."""
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none") as client:
        with client.responses.stream(model="rag/docs", input=QUESTION) as events:
            for _ in events:
                continue
            final = events.get_final_response()
        options: Any = {"include_obfuscation": True}
        padded = list(client.responses.create(model="scripted", input="a", stream=True, stream_options=options))

        assert final.output_text == client.responses.retrieve(final.id).output_text != ""
        assert padded[-1].type == "response.completed"


# Engines other than the scripted one


def test_thoughts_become_an_item_of_their_own(said: Callable[..., Any]) -> None:
    """Both names that engines have for them lead to a reasoning item with its events, before the message."""

    def say(body: Json) -> list[Json]:
        name = body["messages"][-1]["content"]
        return list(
            chunks_of(
                {"role": "assistant", "content": ""}, {name: "Hm, "}, {name: "well."}, {"content": "Sixteen"}, {"content": "."}
            )
        )

    with said(say) as (client, _):
        for name in ("reasoning_content", "reasoning"):
            events = stream(client, name, model="said")
            response = events[-1]["response"]

            assert types_of(response) == ["reasoning", "message"]
            assert response["output"][0]["content"] == [{"type": "reasoning_text", "text": "Hm, well."}]
            assert rebuilt(events) == response["output"]
            found = kinds(events)
            assert found.count("response.reasoning_text.delta") == 2
            assert found.index("response.reasoning_text.done") < found.index("response.output_text.delta")
            follow_up = respond(client, "And?", model="said", previous_response_id=response["id"])
            assert text_of(follow_up) == "Sixteen."


def test_refusal_is_a_part_of_its_own(said: Callable[..., Any]) -> None:
    """What an engine says instead of an answer is a refusal with its events."""
    with said(lambda _: list(chunks_of({"refusal": "I "}, {"refusal": "won't."}))) as (client, _):
        events = stream(client, model="said")

    assert events[-1]["response"]["output"][0]["content"] == [{"type": "refusal", "refusal": "I won't."}]
    assert rebuilt(events) == events[-1]["response"]["output"]
    assert kinds(events).count("response.refusal.delta") == 2
    assert kinds(events).count("response.refusal.done") == 1


def test_calls_that_are_written_in_turns_stay_apart(said: Callable[..., Any]) -> None:
    """Parts of two calls that come mixed, after some text, make two calls with their own arguments."""

    def part(index: int, arguments: str, **head: Any) -> Json:
        return {"tool_calls": [{"index": index, "function": {"arguments": arguments, **head.pop("function", {})}, **head}]}

    chunks = list(
        chunks_of(
            {"content": "I look."},
            part(0, "", id="a", type="function", function={"name": "one"}),
            part(1, "", id="b", type="function", function={"name": "two"}),
            part(0, '{"x"'),
            part(1, '{"y"'),
            part(0, ": 1}"),
            part(1, ": 2}"),
            finish_reason="tool_calls",
        )
    )
    with said(lambda _: chunks) as (client, _):
        events = stream(client, model="said")

    output = events[-1]["response"]["output"]
    assert [(item.get("name"), item.get("call_id"), item.get("arguments")) for item in output] == [
        (None, None, None),
        ("one", "a", '{"x": 1}'),
        ("two", "b", '{"y": 2}'),
    ]
    assert rebuilt(events) == output


def test_answer_without_a_word_is_an_empty_message(said: Callable[..., Any]) -> None:
    """A response always has a message or a call."""
    with said(lambda _: list(chunks_of({"role": "assistant"}))) as (client, _):
        response = respond(client, model="said")

    assert [(item["type"], text_of(response)) for item in response["output"]] == [("message", "")]


def test_answer_that_was_filtered_says_so(said: Callable[..., Any]) -> None:
    """OpenAI's second reason for an incomplete response."""
    with said(lambda _: list(chunks_of({"content": "I"}, finish_reason="content_filter"))) as (client, _):
        response = respond(client, model="said")

    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "content_filter"})


def test_usage_is_the_engines(said: Callable[..., Any]) -> None:
    """Cached and reasoning tokens are told where the engine tells them; the engine is asked for its usage."""
    usage = {
        "prompt_tokens": 30,
        "completion_tokens": 12,
        "total_tokens": 42,
        "prompt_tokens_details": {"cached_tokens": 20},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    with said(lambda _: list(chunks_of({"content": "I"}, usage=usage))) as (client, engine):
        response = respond(client, model="said")

    assert response["usage"] == {
        "input_tokens": 30,
        "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 0},
        "output_tokens": 12,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 42,
    }
    assert engine.sent[-1]["stream_options"] == {"include_usage": True}


# Failures


@pytest.mark.parametrize("error", [None, {"error": {"message": "no memory", "code": 500}}])
def test_answer_that_breaks_off_is_told_and_kept_as_failed(
    settings: Settings,
    scripted_engine: Callable[..., AbstractContextManager[str]],
    said: Callable[..., Any],
    error: Json | None,
) -> None:
    """After the first word come an `error` event and `response.failed`; what was said so far is kept, incomplete."""
    with contextlib.ExitStack() as stack:
        if error is None:
            url = stack.enter_context(scripted_engine(break_after_tokens=2))
            client, model = stack.enter_context(running_server(settings, engine=url)), "scripted"
        else:
            chunks = [*list(chunks_of({"content": "You"}, {"content": " said:"}))[:2], error]
            (client, _), model = stack.enter_context(said(lambda _: chunks)), "said"
        events = stream(client, "one two three four", model=model)
        failed = events[-1]["response"]
        stored = checked(client.get(f"/v1/responses/{failed['id']}").json())

    assert kinds(events)[-2:] == ["error", "response.failed"]
    assert (events[-2]["code"], events[-2]["param"]) == ("engine_protocol_error", None)
    assert events[-2]["message"] == failed["error"]["message"]
    assert "no memory" not in json.dumps(events)
    assert failed["error"]["code"] == "server_error"
    assert failed["output"][0]["status"] == "incomplete"
    assert text_of(failed) == "You said:"
    assert stored == failed


def test_error_in_this_server_tells_nothing_internal(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw after the first word is an error event of two words, and in the log."""

    def broken(*_: object) -> None:
        raise ValueError("/secret/folder")

    monkeypatch.setattr("rag_server.api.responses.writer.ResponseWriter.finish", broken)

    events = stream(live.client, "one")

    assert kinds(events)[-2:] == ["error", "response.failed"]
    assert events[-2]["code"] == "internal_error"
    assert "secret" not in json.dumps(events)


def test_request_that_the_engine_refuses_is_no_stream(live: Live) -> None:
    """A refusal before the first word has its own status, with the search already done."""
    for model in ("scripted", "rag/docs"):
        body = {"model": model, "input": f"{QUESTION} " + "word " * 9000, "stream": True}
        answer = live.client.post("/v1/responses", json=body)

        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["type"]


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    ends = time.monotonic() + seconds
    while not condition() and time.monotonic() < ends:
        time.sleep(0.02)
    return condition()


@pytest.mark.parametrize("stream_", [True, False])
def test_client_that_goes_away_frees_the_engine(said: Callable[..., Any], stream_: bool) -> None:
    """The engine's work ends with its client, and nothing is kept of the answer."""
    endless: list[Json | float] = []
    for chunk in list(chunks_of(*[{"content": "word "}] * 300))[:300]:
        endless += [chunk, 0.05]
    with said(lambda _: endless) as (client, engine):
        body = {"model": "said", "input": "Hello", "stream": stream_}
        if stream_:
            with client.stream("POST", "/v1/responses", json=body) as answer:
                # Kept: an iterator that is thrown away closes the connection.
                lines = answer.iter_lines()
                next(lines)
                assert engine.running == 1
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post("/v1/responses", json=body, timeout=0.5)

        assert wait_for(lambda: engine.running == 0)


def test_stream_is_told_as_it_comes(said: Callable[..., Any]) -> None:
    """The first words are there while the engine still writes."""
    slow: list[Json | float] = [*list(chunks_of({"content": "One"}, {"content": " two"}))[:1], 30.0]
    with (
        said(lambda _: slow) as (client, _),
        client.stream("POST", "/v1/responses", json={"input": "x", "stream": True}) as answer,
    ):
        found = ""
        for text in answer.iter_text():
            found += text
            if "output_text.delta" in found:
                break

    assert '"delta":"One"' in found
    assert kinds(events_of(found))[-1] == "response.output_text.delta"
