"""The items of a conversation as requests bring them, and the shape in which they are kept and shown."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from rag_server.api.responses.echoed import Annotation, Echoed, Logprob, SearchResult
from rag_server.api.schemas_stores import ObjectId
from rag_server.errors import InvalidRequestError
from rag_server.protocols import Json
from rag_server.store.ids import new_id

# OpenAI's limit for one text.
MAX_TEXT_CHARACTERS = 10_485_760
MAX_PARTS = 1000
MAX_ITEMS = 1000

Text = Annotated[str, StringConstraints(max_length=MAX_TEXT_CHARACTERS)]
FunctionName = Annotated[str, StringConstraints(min_length=1, max_length=128)]
CallId = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class InputText(Echoed):
    """A text that the engine reads."""

    type: Literal["input_text"]
    text: Text

    def stored(self) -> Json:
        """Return it as it is kept."""
        return {"type": "input_text", "text": self.text}


class InputImage(Echoed):
    """An image: an address (also `data:`), or a file that was uploaded."""

    type: Literal["input_image"]
    image_url: str | None = None
    file_id: ObjectId | None = None
    detail: Literal["low", "high", "auto", "original"] | None = None

    def stored(self) -> Json:
        """Return it as it is kept."""
        image = {"image_url": self.image_url, "file_id": self.file_id}
        return {"type": "input_image", "detail": self.detail or "auto", **image}


class InputFile(Echoed):
    """A file: its content in base64 (`data:` before it), or one that was uploaded."""

    type: Literal["input_file"]
    file_data: str | None = None
    file_id: ObjectId | None = None
    file_url: str | None = None
    filename: Annotated[str, StringConstraints(max_length=1024)] | None = None

    def stored(self) -> Json:
        """Return it as it is kept."""
        return self.model_dump(exclude_none=True)


class OutputText(Echoed):
    """A text that an engine wrote."""

    type: Literal["output_text"]
    text: Text
    annotations: list[Annotation] = Field(default=[], max_length=10_000)
    logprobs: list[Logprob] | None = None

    def stored(self) -> Json:
        """Return it as it is kept."""
        kept = self.model_dump()
        return {**kept, "logprobs": kept["logprobs"] or []}


class Refusal(Echoed):
    """What an engine said instead of an answer."""

    type: Literal["refusal"]
    refusal: Text

    def stored(self) -> Json:
        """Return it as it is kept."""
        return {"type": "refusal", "refusal": self.refusal}


InputPart = Annotated[InputText | InputImage | InputFile, Field(discriminator="type")]
MessagePart = Annotated[InputText | InputImage | InputFile | OutputText | Refusal, Field(discriminator="type")]


def _as_parts(content: object) -> object:
    return [{"type": "input_text", "text": content}] if isinstance(content, str) else content


class Message(Echoed):
    """What somebody said."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Annotated[
        list[MessagePart],
        Field(max_length=MAX_PARTS),
        BeforeValidator(_as_parts, json_schema_input_type=str | list[MessagePart]),
    ]
    phase: Literal["commentary", "final_answer"] | None = None

    def stored(self) -> Json:
        """Return it as it is kept: with parts, which of an assistant are what engines write."""
        parts = [part.stored() for part in self.content]
        if self.role == "assistant":
            parts = [output_text(part["text"]) if part["type"] == "input_text" else part for part in parts]
        phase = {} if self.phase is None else {"phase": self.phase}
        return {"type": "message", "role": self.role, "status": "completed", "content": parts, **phase}


class FunctionCall(Echoed):
    """A function that an engine wanted called."""

    type: Literal["function_call"]
    call_id: CallId
    name: FunctionName
    arguments: Text

    def stored(self) -> Json:
        """Return it as it is kept."""
        return {**self.model_dump(), "status": "completed"}


class FunctionCallOutput(Echoed):
    """What a function gave back."""

    type: Literal["function_call_output"]
    call_id: CallId
    output: Text | Annotated[list[InputPart], Field(max_length=MAX_PARTS)]

    def stored(self) -> Json:
        """Return it as it is kept."""
        output = self.output if isinstance(self.output, str) else [part.stored() for part in self.output]
        return {"type": "function_call_output", "call_id": self.call_id, "output": output, "status": "completed"}


class ReasoningText(Echoed):
    """A part of what an engine thought."""

    type: Literal["summary_text", "reasoning_text"]
    text: Text


class Reasoning(Echoed):
    """What an engine thought."""

    type: Literal["reasoning"]
    summary: list[ReasoningText] = Field(default=[], max_length=MAX_PARTS)
    content: list[ReasoningText] | None = Field(None, max_length=MAX_PARTS)

    def stored(self) -> Json:
        """Return it as it is kept."""
        return {**self.model_dump(exclude_none=True), "status": "completed"}


class FileSearchCall(Echoed):
    """A search of an earlier answer."""

    type: Literal["file_search_call"]
    queries: list[Text] = Field(default=[], max_length=100)
    results: list[SearchResult] | None = Field(None, max_length=1000)

    def stored(self) -> Json:
        """Return it as it is kept."""
        kept = self.model_dump()
        if self.results is not None:
            kept["results"] = [result.model_dump(exclude_unset=True) for result in self.results]
        return {**kept, "status": "completed"}


class ItemReference(Echoed):
    """An item that is kept here."""

    type: Literal["item_reference"]
    id: ObjectId


ITEM_KINDS = (Message, FunctionCall, FunctionCallOutput, Reasoning, FileSearchCall, ItemReference)
_TYPES = tuple(get_args(kind.model_fields["type"].annotation)[0] for kind in ITEM_KINDS)
_PREFIXES = {
    "message": "msg_",
    "function_call": "fc_",
    "function_call_output": "fco_",
    "reasoning": "rs_",
    "file_search_call": "fs_",
}


def _typed(value: object) -> object:
    """Return an item with its type, which clients may leave out of messages and references."""
    if not isinstance(value, dict):
        return value
    kind = value.get("type")
    if kind is None:
        return {**value, "type": "message" if "role" in value else "item_reference"}
    if kind not in _TYPES:
        raise PydanticCustomError(
            "item_type", "items of the type {kind} are not taken here, only {types}", {"kind": kind, "types": ", ".join(_TYPES)}
        )
    return value


Item = Annotated[
    Message | FunctionCall | FunctionCallOutput | Reasoning | FileSearchCall | ItemReference,
    Field(discriminator="type"),
    BeforeValidator(_typed),
]
FindItems = Callable[[Sequence[str]], dict[str, Json]]


def output_text(text: str) -> Json:
    """Return a part of a message that an engine wrote."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def with_id(item: Json) -> Json:
    """Return an item as it is kept, under an id that no other one has."""
    return {**item, "id": new_id(_PREFIXES[item["type"]])}


def stored_items(items: Sequence[Any], find: FindItems, *, param: str) -> list[Json]:
    """Return items as they are kept, each with an id of its own; references are replaced by what they refer to.

    `param` is the field of the request that holds them.

    Raises:
        InvalidRequestError: An item that is referred to is not here.
    """
    wanted = [item.id for item in items if isinstance(item, ItemReference)]
    found = find(wanted) if wanted else {}
    for item_id in wanted:
        if item_id not in found:
            message = f"there is no item {item_id!r}; items of responses with `store: false` are not kept"
            raise InvalidRequestError(message, param)
    return [with_id(found[item.id] if isinstance(item, ItemReference) else item.stored()) for item in items]
