"""Writes a response from the chunks of a chat answer: as the events of a stream, which add up to the object.

Whole answers are what the same stream ends with, so the two cannot differ.
"""

import time
import uuid
from collections.abc import Iterator, Sequence
from copy import deepcopy

from rag_server.api.responses.items import with_id
from rag_server.api.responses.open_items import OpenCall, OpenContent, item_event
from rag_server.api.responses.shape import flat_annotations, logprobs_of, shown_item, shown_response, usage_object
from rag_server.protocols import Json

INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
# As vLLM, DeepSeek and others name it; OpenAI's own chat answers have none.
THOUGHTS = ("reasoning_content", "reasoning")


class ResponseWriter:
    """The response so far, whole; the events, in their order, show what `include` names."""

    def __init__(self, response: Json, include: Sequence[str] | None) -> None:
        self.response = response
        self._include = include
        self._count = 0
        self._thoughts: OpenContent | None = None
        self._message: OpenContent | None = None
        # By the index that the engine gives them; they may be written several at once.
        self._calls: dict[int, OpenCall] = {}
        self._finish_reason: str | None = None
        self._annotations: list[Json] = []

    def state(self, name: str) -> Json:
        """Return the event that tells the response's state, `created` among others."""
        snapshot = deepcopy(shown_response(self.response, self._include))
        return self._numbered({"type": f"response.{name}", "response": snapshot})

    def error(self, error: Json) -> Json:
        """Return the event of an error; `error` is OpenAI's error object."""
        return self._numbered({"type": "error", **{name: error[name] for name in ("code", "message", "param")}})

    def begin_search(self) -> Iterator[Json]:
        """Yield the events of a search that begins."""
        call = with_id({"type": "file_search_call", "status": "in_progress", "queries": [], "results": None})
        yield self._numbered(self._added(call))
        call["status"] = "searching"
        for what in ("in_progress", "searching"):
            yield self._numbered(self._of_search(what, call))

    def end_search(self, queries: Sequence[str], results: Sequence[Json]) -> Iterator[Json]:
        """Yield the events of the search that has ended."""
        call = self.response["output"][-1]
        call |= {"status": "completed", "queries": list(queries), "results": list(results)}
        yield self._numbered(self._of_search("completed", call))
        yield self._numbered(item_event("done", call, len(self.response["output"]) - 1))

    def add(self, chunk: Json) -> Iterator[Json]:
        """Yield the events of the next chunk of the answer."""
        if isinstance(chunk.get("usage"), dict):
            self.response["usage"] = usage_object(chunk["usage"])
        if isinstance(chunk.get("service_tier"), str):
            self.response["service_tier"] = chunk["service_tier"]
        if isinstance(chunk.get("rag"), dict):
            self.response["rag"] = {**self.response.get("rag", {}), **chunk["rag"]}
        for choice in chunk.get("choices") or ():
            if choice["index"] == 0:
                yield from map(self._numbered, self._of_choice(choice))

    def finish(self) -> Iterator[Json]:
        """Yield the events that close what is open; the response then has its last state, which `state` is to tell."""
        if self._message is None and not self._calls:
            yield from map(self._numbered, self._say("output_text", "", ()))
        reason = INCOMPLETE.get(self._finish_reason or "")
        status = "completed" if reason is None else "incomplete"
        yield from map(self._numbered, self._close(status))
        self.response["status"] = status
        if reason is None:
            self.response["completed_at"] = int(time.time())
        else:
            self.response["incomplete_details"] = {"reason": reason}

    def fail(self, error: Json) -> None:
        """Give the response its error, in the shape of a response's; items that are not done stay incomplete."""
        for item in self.response["output"]:
            if item["status"] in ("in_progress", "searching"):
                item["status"] = "incomplete"
        self.response |= {"status": "failed", "error": error}

    def _of_choice(self, choice: Json) -> Iterator[Json]:
        delta = choice["delta"]
        thought = next((delta[name] for name in THOUGHTS if isinstance(delta.get(name), str) and delta[name]), None)
        if thought is not None:
            yield from self._think(thought)
        if delta.get("content"):
            yield from self._say("output_text", delta["content"], logprobs_of(choice.get("logprobs")))
        if delta.get("refusal"):
            yield from self._say("refusal", delta["refusal"], ())
        for part in delta.get("tool_calls") or ():
            yield from self._call(part)
        self._annotations += flat_annotations(delta.get("annotations") or ())
        self._finish_reason = choice.get("finish_reason") or self._finish_reason

    def _think(self, text: str) -> Iterator[Json]:
        if self._thoughts is None:
            item = with_id({"type": "reasoning", "status": "in_progress", "summary": [], "content": []})
            self._thoughts = OpenContent(item, len(self.response["output"]))
            yield self._added(item)
        yield from self._thoughts.add("reasoning_text", text, ())

    def _say(self, kind: str, text: str, logprobs: Sequence[Json]) -> Iterator[Json]:
        yield from self._end_thoughts("completed")
        if self._message is None:
            item = with_id({"type": "message", "status": "in_progress", "role": "assistant", "content": []})
            self._message = OpenContent(item, len(self.response["output"]))
            yield self._added(item)
        yield from self._message.add(kind, text, logprobs)

    def _call(self, part: Json) -> Iterator[Json]:
        yield from self._end_thoughts("completed")
        function = part.get("function") or {}
        if part["index"] not in self._calls:
            call_id, name = part.get("id") or f"call_{uuid.uuid4().hex}", function.get("name") or ""
            call = {"type": "function_call", "status": "in_progress", "call_id": call_id, "name": name, "arguments": ""}
            item = with_id(call)
            self._calls[part["index"]] = OpenCall(item, len(self.response["output"]))
            yield self._added(item)
        if function.get("arguments"):
            yield from self._calls[part["index"]].add(function["arguments"])

    def _end_thoughts(self, status: str) -> Iterator[Json]:
        if self._thoughts is not None:
            yield from self._thoughts.close(status)
            self._thoughts = None

    def _close(self, status: str) -> Iterator[Json]:
        yield from self._end_thoughts(status)
        if self._message is not None:
            yield from self._message.close(status, self._annotations)
        for call in self._calls.values():
            yield from call.close(status)

    def _added(self, item: Json) -> Json:
        self.response["output"].append(item)
        return item_event("added", item, len(self.response["output"]) - 1)

    def _of_search(self, what: str, call: Json) -> Json:
        place = {"output_index": len(self.response["output"]) - 1, "item_id": call["id"]}
        return {"type": f"response.file_search_call.{what}", **place}

    def _numbered(self, event: Json) -> Json:
        """Return the event as it is at this moment, under the next number."""
        numbered = {**event, "sequence_number": self._count}
        self._count += 1
        if "item" in event:
            numbered["item"] = deepcopy(shown_item(event["item"], self._include))
        if "part" in event:
            numbered["part"] = deepcopy(event["part"])
        return numbered
