"""Joins the chunks of a streamed chat completion to the whole that they are parts of."""

from typing import Any

from rag_server.protocols import Json


class JoinedChunks:
    """The completion so far."""

    def __init__(self) -> None:
        self._head: Json = {}
        self._choices: dict[int, Json] = {}

    def add(self, chunk: Json) -> None:
        """Add the next chunk."""
        for name, value in chunk.items():
            if name == "choices":
                for choice in value:
                    self._add_choice(choice)
            elif isinstance(value, dict):
                self._head[name] = {**(self._head.get(name) or {}), **value}
            elif value is not None:
                self._head[name] = value

    def completion(self) -> Json:
        """Return what the chunks add up to, as a completion that was not streamed looks."""
        choices = [self._choices[index] for index in sorted(self._choices)]
        return {**self._head, "object": "chat.completion", "choices": choices}

    def _add_choice(self, part: Json) -> None:
        empty: Json = {"index": part["index"], "message": _empty_message(), "logprobs": None, "finish_reason": "stop"}
        choice = self._choices.setdefault(part["index"], empty)
        for name, value in part.items():
            if name == "delta":
                _add_delta(choice["message"], value)
            elif name == "logprobs" and value is not None:
                choice["logprobs"] = _joined_lists(choice["logprobs"] or {}, value)
            elif value is not None:
                choice[name] = value


def _empty_message() -> Json:
    return {"role": "assistant", "content": None, "refusal": None}


def _add_delta(message: Json, delta: Json) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            calls = message.setdefault("tool_calls", [])
            for part in value or ():
                _add_call(calls, part)
        elif name == "function_call" and value is not None:
            _add_function(message.setdefault("function_call", {}), value)
        elif isinstance(value, str) and name != "role":
            message[name] = (message.get(name) or "") + value
        elif value is not None:
            message[name] = value


def _add_call(calls: list[Json], part: Json) -> None:
    while len(calls) <= part["index"]:
        calls.append({"id": "", "type": "function", "function": {}})
    call = calls[part["index"]]
    for name, value in part.items():
        if name == "function" and isinstance(value, dict):
            _add_function(call["function"], value)
        elif name != "index" and value is not None:
            call[name] = value


def _add_function(function: Json, part: Json) -> None:
    """Add a part of a call: the arguments come in pieces, the name at once, and from some engines again with each piece."""
    function["name"] = function.get("name") or part.get("name") or ""
    function["arguments"] = function.get("arguments", "") + (part.get("arguments") or "")


def _joined_lists(before: Json, after: Json) -> Json:
    def joined(name: str) -> Any:
        old, new = before.get(name), after.get(name)
        return [*old, *new] if isinstance(old, list) and isinstance(new, list) else old if new is None else new

    return {name: joined(name) for name in {**before, **after}}
