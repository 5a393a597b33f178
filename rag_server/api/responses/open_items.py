"""Items of a response while they are written: each method yields the events of what it does, not numbered yet."""

from collections.abc import Iterator, Sequence

from rag_server.protocols import Json

# The name of the text in a part; its events go by the kind of the part.
_TEXT = {"output_text": "text", "refusal": "refusal", "reasoning_text": "text"}


class OpenContent:
    """A message, or what the engine thinks: an item with parts, of which the last is written."""

    def __init__(self, item: Json, output_index: int) -> None:
        self._item = item
        self._index = output_index
        self._part: Json | None = None

    def add(self, kind: str, text: str, logprobs: Sequence[Json]) -> Iterator[Json]:
        """Add to the part of that kind, a new one if the last is another."""
        if self._part is None or self._part["type"] != kind:
            yield from self._close_part()
            yield from self._open_part(kind)
        part = self._item["content"][-1]
        part[_TEXT[kind]] += text
        if kind == "output_text":
            part["logprobs"] += logprobs
        yield self._event("delta", delta=text, **({"logprobs": list(logprobs)} if kind == "output_text" else {}))

    def close(self, status: str, annotations: Sequence[Json] = ()) -> Iterator[Json]:
        """Close the part with its annotations, and the item."""
        yield from self._annotate(annotations)
        yield from self._close_part()
        self._item["status"] = status
        yield item_event("done", self._item, self._index)

    def _open_part(self, kind: str) -> Iterator[Json]:
        self._part = {"type": kind, _TEXT[kind]: ""}
        if kind == "output_text":
            self._part |= {"annotations": [], "logprobs": []}
        self._item["content"].append(self._part)
        yield {**self._head("response.content_part.added"), "part": self._part}

    def _close_part(self) -> Iterator[Json]:
        if self._part is None:
            return
        part, name = self._part, _TEXT[self._part["type"]]
        logprobs = {"logprobs": part["logprobs"]} if part["type"] == "output_text" else {}
        yield self._event("done", **{name: part[name]}, **logprobs)
        yield {**self._head("response.content_part.done"), "part": part}
        self._part = None

    def _annotate(self, annotations: Sequence[Json]) -> Iterator[Json]:
        if self._part is None or self._part["type"] != "output_text":
            return
        for number, annotation in enumerate(annotations):
            self._part["annotations"].append(annotation)
            yield self._event("annotation.added", annotation_index=number, annotation=annotation)

    def _event(self, what: str, **fields: object) -> Json:
        kind = self._item["content"][-1]["type"]
        return {**self._head(f"response.{kind}.{what}"), **fields}

    def _head(self, kind: str) -> Json:
        place = {"item_id": self._item["id"], "output_index": self._index, "content_index": len(self._item["content"]) - 1}
        return {"type": kind, **place}


class OpenCall:
    """A call of a function."""

    def __init__(self, item: Json, output_index: int) -> None:
        self._item = item
        self._index = output_index
        self._head = {"item_id": item["id"], "output_index": output_index}

    def add(self, arguments: str) -> Iterator[Json]:
        """Add to the arguments."""
        self._item["arguments"] += arguments
        yield {"type": "response.function_call_arguments.delta", **self._head, "delta": arguments}

    def close(self, status: str) -> Iterator[Json]:
        """Close the item."""
        self._item["status"] = status
        whole = {"name": self._item["name"], "arguments": self._item["arguments"]}
        yield {"type": "response.function_call_arguments.done", **self._head, **whole}
        yield item_event("done", self._item, self._index)


def item_event(what: str, item: Json, output_index: int) -> Json:
    """Return the event of an item that was added or is done."""
    return {"type": f"response.output_item.{what}", "output_index": output_index, "item": item}
