"""What OpenAI's answers always have, filled in where an engine leaves it out; nothing that the engine gives is changed."""

import time
import uuid
from collections.abc import Iterator

from rag_server.errors import EngineProtocolError
from rag_server.protocols import Json

CHAT_ID, TEXT_ID = "chatcmpl-", "cmpl-"


def completed_chat(answer: Json, body: Json) -> Json:
    """Return the completion of a chat request (CreateChatCompletionResponse in OpenAI's description).

    Raises:
        EngineProtocolError: It is no chat completion.
    """
    choices = []
    for index, choice in enumerate(_choices(answer)):
        message = _filled(_object(choice.get("message"), "message"), {"role": "assistant", "content": None, "refusal": None})
        _check_text(message)
        stopped = "tool_calls" if message.get("tool_calls") else "stop"
        filled = _filled(choice, {"index": index, "logprobs": None, "finish_reason": stopped})
        choices.append({**filled, **_logprobs(choice), "message": message})
    return {**_filled(answer, completion_head(_model(body), "chat.completion", CHAT_ID)), "choices": choices}


def completed_text(answer: Json, body: Json) -> Json:
    """Return the completion of a text request (CreateCompletionResponse).

    Raises:
        EngineProtocolError: It is no text completion.
    """
    choices = [
        _filled(choice, {"index": index, "text": "", "logprobs": None, "finish_reason": "stop"})
        for index, choice in enumerate(_choices(answer))
    ]
    return {**_filled(answer, completion_head(_model(body), "text_completion", TEXT_ID)), "choices": choices}


class StreamShape:
    """Fills in the chunks of one stream, which share their id and their time."""

    def __init__(self, body: Json, kind: str, prefix: str) -> None:
        self._head = completion_head(_model(body), kind, prefix)
        self._is_first = True
        options = body.get("stream_options")
        self._usage = {"usage": None} if isinstance(options, dict) and options.get("include_usage") is True else {}
        # By choice: the ids of the tool calls so far, whose places are their indices.
        self._calls: dict[int, list[str]] = {}

    def chat_chunk(self, chunk: Json) -> Json:
        """Return a chunk of a chat completion (CreateChatCompletionStreamResponse).

        Raises:
            EngineProtocolError: It is none.
        """
        choices = []
        for index, choice in enumerate(_choices(chunk, may_lack=True)):
            filled = _filled(choice, {"index": index, "finish_reason": None})
            delta = _object(choice.get("delta") or {}, "delta")
            _check_text(delta)
            if delta.get("tool_calls"):
                delta = {**delta, "tool_calls": list(self._numbered(filled["index"], delta["tool_calls"]))}
            choices.append({**filled, **_logprobs(choice), "delta": delta})
        return self._headed(chunk, choices)

    def text_chunk(self, chunk: Json) -> Json:
        """Return a chunk of a text completion (CreateCompletionResponse, but for the reason to stop).

        Raises:
            EngineProtocolError: It is none.
        """
        defaults: Json = {"text": "", "logprobs": None, "finish_reason": None}
        choices = [_filled(choice, {"index": index, **defaults}) for index, choice in enumerate(_choices(chunk, may_lack=True))]
        return self._headed(chunk, choices)

    def _headed(self, chunk: Json, choices: list[Json]) -> Json:
        filled = {**self._usage, **_filled(chunk, self._head), "choices": choices}
        if self._is_first:
            self._is_first = False
            self._head |= {name: filled[name] for name in ("id", "created")}
        return filled

    def _numbered(self, choice: int, calls: object) -> Iterator[Json]:
        """Yield the parts of tool calls, each with the index of its call: some engines send whole calls without one."""
        known = self._calls.setdefault(choice, [])
        for call in calls if isinstance(calls, list) else []:
            part = _object(call, "tool call")
            if part.get("id") and part["id"] not in known:
                known.append(part["id"])
            yield _filled(part, {"index": max(0, len(known) - 1)})


def completion_head(model: str, kind: str, prefix: str) -> Json:
    """Return what every completion of that kind begins with."""
    return {"id": f"{prefix}{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


def _model(body: Json) -> str:
    return body.get("model") or ""


def _filled(values: Json, defaults: Json) -> Json:
    """Return `values` with the defaults for what is not there, null or, as some engines have it, empty."""
    missing = {name: value for name, value in defaults.items() if values.get(name) in (None, "")}
    return {**values, **{name: value for name, value in missing.items() if value is not None or name not in values}}


def _choices(answer: Json, *, may_lack: bool = False) -> list[Json]:
    choices = answer.get("choices")
    if choices is None and may_lack:
        return []
    if not isinstance(choices, list):
        raise EngineProtocolError("the engine's answer has no choices")
    return [_object(choice, "choice") for choice in choices]


def _object(value: object, what: str) -> Json:
    if not isinstance(value, dict):
        raise EngineProtocolError(f"the engine's answer has a {what} that is no JSON object")
    return value


def _check_text(message: Json) -> None:
    if not isinstance(message.get("content"), str | None):
        raise EngineProtocolError("the engine's answer has a content that is no text")


def _logprobs(choice: Json) -> Json:
    logprobs = choice.get("logprobs")
    return {"logprobs": {"content": None, "refusal": None, **logprobs}} if isinstance(logprobs, dict) else {}
