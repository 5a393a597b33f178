"""Checks of responses by the published wire types, and an engine that says what a test has it say."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import httpx
from openai.types.conversations import ConversationItem
from openai.types.responses import Response, ResponseItem, ResponseStreamEvent
from pydantic import TypeAdapter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.responses import Response as Answer
from starlette.routing import Route

Json = dict[str, Any]
WEATHER: Json = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a place.",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    "strict": True,
}
# The same as chat has it, and a question that has the scripted engine call it.
CHAT_WEATHER: Json = {"type": "function", "function": {name: value for name, value in WEATHER.items() if name != "type"}}
ASKS_WEATHER = 'call weather with {"place": "Utsira"}'
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
ITEM: TypeAdapter[Any] = TypeAdapter(ResponseItem)
CONVERSATION_ITEM: TypeAdapter[Any] = TypeAdapter(ConversationItem)
# Those that clients count on, in OpenAI's and in Open Responses' description; those of the second line are never null.
ALWAYS = {
    *(
        "error",
        "incomplete_details",
        "instructions",
        "previous_response_id",
        "max_output_tokens",
        "completed_at",
        "conversation",
    ),
    *("id", "object", "created_at", "status", "model", "output", "tools", "tool_choice", "truncation", "parallel_tool_calls"),
    *("text", "top_p", "temperature", "presence_penalty", "frequency_penalty", "top_logprobs", "reasoning", "store"),
    *("background", "service_tier", "metadata"),
}
NULLABLE = {
    "error",
    "incomplete_details",
    "instructions",
    "previous_response_id",
    "max_output_tokens",
    "completed_at",
    "conversation",
}


def checked(response: Json) -> Json:
    """The response, once it is what OpenAI's types say, strictly, with all that clients count on."""
    Response.model_validate_json(json.dumps(response), strict=True)
    assert set(response) >= ALWAYS
    assert {name for name in ALWAYS - NULLABLE if response[name] is None} == set()
    # Fields whose types in OpenAI's description have no null.
    assert {name for name in ("usage", "user", "text") if name in response and response[name] is None} == set()
    if response["status"] in ("completed", "incomplete"):
        assert response["usage"]["total_tokens"] == response["usage"]["input_tokens"] + response["usage"]["output_tokens"]
    return response


def checked_items(listed: Json, kind: TypeAdapter[Any] = ITEM) -> list[Json]:
    """The items of a list object, once each is what OpenAI's types say."""
    assert (listed["object"], listed["first_id"]) == ("list", listed["data"][0]["id"] if listed["data"] else None)
    for item in listed["data"]:
        kind.validate_json(json.dumps(item), strict=True)
        assert item["id"]
    items: list[Json] = listed["data"]
    return items


def events_of(answer: str) -> list[Json]:
    """The events of a stream, once each is what OpenAI's types say, under its name and its number."""
    told = []
    for block in answer.split("\n\n")[:-1]:
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        EVENT.validate_json(data.removeprefix("data: "), strict=True)
        if "response" in event:
            checked(event["response"])
        told.append(event)
    return told


def respond(client: httpx.Client, input_: Any = "Hello", **fields: Any) -> Json:
    """Make a response; return it."""
    answer = client.post("/v1/responses", json={"model": "scripted", "input": input_, **fields})
    assert answer.status_code == 200, answer.text
    return checked(answer.json())


def stream(client: httpx.Client, input_: Any = "Hello", **fields: Any) -> list[Json]:
    """Make a response; return its events."""
    answer = client.post("/v1/responses", json={"model": "scripted", "input": input_, "stream": True, **fields})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return events_of(answer.text)


def text_of(response: Json) -> str:
    """The text of all messages of the output."""
    messages = [item for item in response["output"] if item["type"] == "message"]
    return "".join(part.get("text", "") for message in messages for part in message["content"])


def types_of(response: Json) -> list[str]:
    """The types of the output's items."""
    return [item["type"] for item in response["output"]]


class SaidEngine:
    """An engine whose streams are the chunks that `say` returns for a request; it keeps what it was sent.

    A chunk that is a number is a pause in seconds. `running` counts streams that are not over.
    """

    def __init__(self, say: Callable[[Json], Sequence[Json | float]]) -> None:
        self._say = say
        self.sent: list[Json] = []
        self.running = 0
        self.app = Starlette(
            routes=[
                Route("/v1/models", self._models),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
            ]
        )

    async def _models(self, _: Request) -> Answer:
        return JSONResponse({"object": "list", "data": [{"id": "said", "object": "model"}]})

    async def _chat(self, request: Request) -> Answer:
        body = await request.json()
        self.sent.append(body)
        return StreamingResponse(self._stream(self._say(body)), media_type="text/event-stream")

    async def _stream(self, chunks: Sequence[Json | float]) -> AsyncIterator[str]:
        self.running += 1
        try:
            for chunk in chunks:
                if isinstance(chunk, float):
                    await asyncio.sleep(chunk)
                else:
                    yield f"data: {json.dumps(chunk)}\n\n"
            yield "data: [DONE]\n\n"
        finally:
            self.running -= 1


def chunks_of(*deltas: Json, finish_reason: str = "stop", usage: Json | None = None) -> Iterator[Json]:
    """Chunks as engines stream them: one per delta, the reason to stop, the usage."""
    head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "said"}
    for delta in deltas:
        yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish_reason}]}
    counted = usage or {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    yield {**head, "choices": [], "usage": counted}


def refused(client: httpx.Client, **fields: Any) -> Json:
    """The error of a request that gets 400."""
    answer = client.post("/v1/responses", json={"model": "scripted", "input": "Hello", **fields})
    assert answer.status_code == 400, answer.text
    error: Json = answer.json()["error"]
    return error


def sent_chat(sent: Sequence[bytes]) -> Json:
    """The last chat request among what an engine was sent."""
    chats = (body for body in reversed(sent) if b'"messages"' in body and b'"stream"' in body)
    found: Json = json.loads(next(chats))
    return found
