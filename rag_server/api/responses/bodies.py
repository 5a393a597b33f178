"""The bodies of requests for responses and conversations. Fields that are not named here go on to the engine."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from rag_server.api.responses.items import MAX_ITEMS, Item
from rag_server.api.schemas import RagBody
from rag_server.api.schemas_chat import MAX_ANSWER_TOKENS
from rag_server.api.schemas_stores import Metadata, ObjectId
from rag_server.errors import InvalidRequestError, UnsupportedToolError
from rag_server.protocols import Json

MAX_TOOLS = 128
MAX_INSTRUCTIONS_CHARACTERS = 1_000_000

Include = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]
ToolName = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[a-zA-Z0-9_.-]+$")]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class FunctionTool(_Body):
    """A function that the client runs."""

    type: Literal["function"]
    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def shown(self) -> Json:
        """Return it as responses show it."""
        described = {} if self.description is None else {"description": self.description}
        return {"type": "function", "name": self.name, "parameters": self.parameters, "strict": self.strict, **described}


class HybridSearch(_Body):
    """What the two searches count beside each other."""

    embedding_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    text_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class RankingOptions(_Body):
    """How a file search ranks."""

    ranker: Literal["none", "auto", "default-2024-11-15"] = "auto"
    score_threshold: Share = 0.0
    hybrid_search: HybridSearch | None = None


class FileSearchTool(_Body):
    """A search that this server does before it answers."""

    type: Literal["file_search"]
    vector_store_ids: list[ObjectId] = Field(min_length=1, max_length=32)
    max_num_results: int | None = Field(None, ge=1, le=50)
    filters: dict[str, Any] | None = None
    ranking_options: RankingOptions | None = None

    def shown(self) -> Json:
        """Return it as responses show it."""
        return {"filters": None, **self.model_dump(exclude_unset=True), "type": "file_search"}


def _served(tool: object) -> object:
    kind = tool.get("type") if isinstance(tool, dict) else None
    if isinstance(kind, str) and kind not in ("function", "file_search"):
        raise UnsupportedToolError(
            f"this server does not run the tool {kind!r}; it serves `function` and `file_search`", "tools"
        )
    return tool


Tool = Annotated[FunctionTool | FileSearchTool, Field(discriminator="type"), BeforeValidator(_served)]


class NamedChoice(_Body):
    """The tool that has to be used: a function by its name, or the file search."""

    type: Literal["function", "file_search"]
    name: ToolName | None = None


class AllowedTools(_Body):
    """The tools that may be used, of those that there are."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[NamedChoice] = Field(max_length=MAX_TOOLS)


def _served_choice(choice: object) -> object:
    kind = choice.get("type") if isinstance(choice, dict) else None
    if isinstance(kind, str) and kind not in ("function", "file_search", "allowed_tools"):
        message = f"this server does not run the tool {kind!r}; it serves `function` and `file_search`"
        raise UnsupportedToolError(message, "tool_choice")
    return choice


ToolChoice = Annotated[Literal["none", "auto", "required"] | NamedChoice | AllowedTools, BeforeValidator(_served_choice)]


class TextFormat(_Body):
    """The shape of the answer's text."""

    type: Literal["text", "json_object", "json_schema"]
    name: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_-]+$")] | None = None
    description: str | None = None
    # `schema` is a method of pydantic's models.
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class TextOptions(_Body):
    """How the answer's text is to be."""

    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ReasoningOptions(_Body):
    """How much the engine is to think."""

    model_config = ConfigDict(extra="allow", strict=True)

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class StreamOptions(_Body):
    """Taken, and of no consequence: this server pads no events."""

    include_obfuscation: bool | None = None


class ConversationRef(_Body):
    """A conversation by its id."""

    id: ObjectId


def _as_items(value: object) -> object:
    return [{"type": "message", "role": "user", "content": value}] if isinstance(value, str) else value


def _as_reference(value: object) -> object:
    return {"id": value} if isinstance(value, str) else value


def _not_served(value: object) -> None:
    if value is not None:
        raise InvalidRequestError(
            "this server has no prompt templates, moderation or compaction: leave out `prompt`, "
            "`moderation` and `context_management`"
        )


Input = Annotated[list[Item], Field(max_length=MAX_ITEMS), BeforeValidator(_as_items, json_schema_input_type=str | list[Item])]
Conversation = Annotated[ConversationRef, BeforeValidator(_as_reference, json_schema_input_type=str | ConversationRef)]
NotServed = Annotated[Any, AfterValidator(_not_served)]


class DialogueBody(_Body):
    """What the engine is to read: the input, and what came before it."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: Annotated[str, StringConstraints(min_length=1, max_length=1000)] | None = None
    input: Input | None = None
    instructions: Annotated[str, StringConstraints(max_length=MAX_INSTRUCTIONS_CHARACTERS)] | None = None
    previous_response_id: ObjectId | None = None
    conversation: Conversation | None = None
    tools: list[Tool] | None = Field(None, max_length=MAX_TOOLS)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    truncation: Literal["auto", "disabled"] | None = None


class ResponseBody(DialogueBody):
    """A request for a response."""

    include: list[Include] | None = Field(None, max_length=16)
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Share | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    max_output_tokens: int | None = Field(None, ge=16, le=MAX_ANSWER_TOKENS)
    max_tool_calls: int | None = Field(None, ge=0)
    top_logprobs: int | None = Field(None, ge=0, le=20)
    metadata: Metadata | None = None
    user: Annotated[str, StringConstraints(max_length=1000)] | None = None
    safety_identifier: Annotated[str, StringConstraints(max_length=64)] | None = None
    prompt_cache_key: Annotated[str, StringConstraints(max_length=1000)] | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"] | None = None
    store: bool | None = None
    background: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    prompt: NotServed = None
    moderation: NotServed = None
    context_management: NotServed = None
    rag: RagBody | None = None

    @property
    def is_kept(self) -> bool:
        """Whether the response can be read again."""
        return self.store is not False


class TokenCountBody(DialogueBody):
    """What is to be counted."""


class CreateConversationBody(_Body):
    """A conversation to begin."""

    items: list[Item] | None = Field(None, max_length=20)
    metadata: Metadata | None = None


class UpdateConversationBody(_Body):
    """The metadata of a conversation, which replaces what it has."""

    metadata: Metadata | None


class AddItemsBody(_Body):
    """Items to put at the end of a conversation."""

    items: list[Item] = Field(min_length=1, max_length=20)
