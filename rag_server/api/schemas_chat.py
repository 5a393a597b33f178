"""The bodies of chat completions, completions and embeddings: what this server reads of them, and what it bounds.

The types are OpenAI's and are not stretched: `"true"` is no boolean. Fields that are not named here go on to the engine.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from rag_server.api.schemas import RagBody
from rag_server.api.schemas_stores import Metadata
from rag_server.protocols import Json

MAX_MESSAGES = 2048
# About a million tokens, which is more than any engine reads. Images and audio are bounded by the size of the body.
MAX_CONVERSATION_CHARACTERS = 4_000_000
MAX_CHOICES = 128
MAX_ANSWER_TOKENS = 1_000_000
MAX_INPUTS = 2048
MAX_INPUT_TOKENS = 1_000_000
# Of a request: prompts times answers to each.
MAX_TEXT_CHOICES = 2048


def _checked_message(message: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(message.get("role"), str):
        raise ValueError("a message needs a role")
    if not isinstance(message.get("content"), str | list | None):
        raise ValueError("content must be a string or a list of parts")
    return message


def _checked_length(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if sum(map(_num_characters, messages)) > MAX_CONVERSATION_CHARACTERS:
        raise ValueError(f"the texts have more than {MAX_CONVERSATION_CHARACTERS:,} characters together")
    return messages


def _num_characters(message: Mapping[str, Any]) -> int:
    content = message.get("content")
    if isinstance(content, str):
        return len(content)
    texts = [part.get("text") for part in content or () if isinstance(part, dict)]
    return sum(len(text) for text in texts if isinstance(text, str))


def checked_texts(value: object) -> object:
    """Return what OpenAI takes as texts: a string, token ids, or a list of strings or of lists of token ids.

    Raises:
        ValueError: It is something else, or too much.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise ValueError("must be a string, a list of strings, a list of token ids, or a list of those, and not empty")
    if all(map(_is_token, value)):
        num_tokens = len(value)
    else:
        if len(value) > MAX_INPUTS:
            raise ValueError(f"may have {MAX_INPUTS} texts; send the others in another request")
        _check_alike(value)
        num_tokens = sum(len(one) for one in value if isinstance(one, list))
    if num_tokens > MAX_INPUT_TOKENS:
        raise ValueError(f"may have {MAX_INPUT_TOKENS:,} token ids together")
    return value


def _check_alike(texts: list[object]) -> None:
    kind = type(texts[0])
    for index, text in enumerate(texts):
        is_tokens = isinstance(text, list) and bool(text) and all(map(_is_token, text))
        if type(text) is not kind or not (isinstance(text, str) or is_tokens):
            raise ValueError(f"text {index} must be a string like the others, or a list of token ids like the others")


def _is_token(value: object) -> bool:
    return type(value) is int and value >= 0


Texts = Annotated[Any, AfterValidator(checked_texts)]
Message = Annotated[dict[str, Any], AfterValidator(_checked_message)]


class StreamOptions(BaseModel):
    """What a stream holds beside the answer."""

    model_config = ConfigDict(extra="allow", strict=True)

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class EngineBody(BaseModel):
    """What requests for chat and text completions have in common."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    prompt_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    rag: RagBody | None = None

    def engine_body(self) -> Json:
        """Return the request as the engine gets it: vLLM ignores what is left out here, and others refuse it."""
        return self.model_dump(exclude={"rag", "store", "metadata"}, exclude_unset=True)


class ChatRagBody(RagBody):
    """The `rag` object of a chat completion.

    `source_events` adds Open WebUI's events to a stream, `trace` what became of each candidate of the search.
    """

    source_events: bool = False
    trace: bool = False


class ChatBody(EngineBody):
    """A chat completion request. `store` and `metadata` are for this server, which keeps the answer."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES), AfterValidator(_checked_length)]
    max_tokens: Annotated[int, Field(ge=1, le=MAX_ANSWER_TOKENS)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_ANSWER_TOKENS)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    rag: ChatRagBody | None = None


class CompletionBody(EngineBody):
    """A text completion request."""

    prompt: Annotated[Any, AfterValidator(lambda value: value if value is None else checked_texts(value))]
    max_tokens: Annotated[int, Field(ge=0, le=MAX_ANSWER_TOKENS)] | None = None
    best_of: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    suffix: str | None = None


class MetadataBody(BaseModel):
    """The metadata of a stored completion, which replaces what it has."""

    model_config = ConfigDict(extra="forbid", strict=True)

    metadata: Metadata | None


class EmbeddingsRagBody(BaseModel):
    """What this server adds to a request for embeddings: some models embed queries and passages differently."""

    model_config = ConfigDict(extra="forbid", strict=True)

    input_type: Literal["query", "passage"] = "passage"


class EmbeddingsBody(BaseModel):
    """A request for embeddings."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    input: Texts
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=100_000)] | None = None
    user: str | None = None
    rag: EmbeddingsRagBody | None = None

    def engine_body(self) -> Json:
        """Return the request as the engine gets it."""
        return self.model_dump(exclude={"rag"}, exclude_unset=True)
