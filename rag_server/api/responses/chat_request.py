"""A request for a response as the chat request that the engine gets, and what this server does of it itself: the search."""

from collections.abc import Sequence
from dataclasses import dataclass

from rag_server.api.responses.bodies import (
    AllowedTools,
    DialogueBody,
    FileSearchTool,
    FunctionTool,
    HybridSearch,
    NamedChoice,
    ResponseBody,
    TextFormat,
)
from rag_server.api.schemas import RagBody
from rag_server.config import RetrieveKind
from rag_server.errors import InvalidRequestError
from rag_server.protocols import Json

LOGPROBS = "message.output_text.logprobs"
# They mean the same in both requests.
_SAME = (
    "temperature",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "service_tier",
)

# Of a chat completion: more answers than the one that a response has, or longer ones than it may have.
CHAT_ONLY = frozenset({"n", "max_tokens", "max_completion_tokens", "best_of", "logprobs", "prompt_logprobs"})


@dataclass(frozen=True, slots=True)
class ToolPlan:
    """What becomes of a request's tools: the search that this server does, and what the engine is told of the functions."""

    search: FileSearchTool | None
    functions: tuple[FunctionTool, ...]
    choice: str | Json | None


def plan_tools(body: DialogueBody) -> ToolPlan:
    """Return what is done with the tools.

    The search is done unless `tool_choice` rules it out: it needs no word of the engine.

    Raises:
        InvalidRequestError: `tool_choice` names a tool that the request does not have, or there are two file searches.
    """
    tools, choice = body.tools or [], body.tool_choice
    if isinstance(choice, AllowedTools):
        for named in choice.tools:
            _check_there(named, tools)
        tools = [tool for tool in tools if any(_is_meant(tool, named) for named in choice.tools)]
    searches = [tool for tool in tools if isinstance(tool, FileSearchTool)]
    functions = tuple(tool for tool in tools if isinstance(tool, FunctionTool))
    if len(searches) > 1:
        raise InvalidRequestError("name all vector stores in one file_search tool", "tools")
    search = searches[0] if searches else None
    mode = choice.mode if isinstance(choice, AllowedTools) else choice
    if isinstance(mode, NamedChoice):
        _check_there(mode, tools)
        if mode.type == "file_search":
            return ToolPlan(search, functions, "none" if functions else None)
        return ToolPlan(None, functions, {"type": "function", "function": {"name": mode.name}})
    if mode == "none":
        return ToolPlan(None, functions, mode)
    # A search that was done is a tool that was used.
    return ToolPlan(search, functions, "auto" if mode == "required" and search is not None else mode)


def search_options(search: FileSearchTool | None, rag: RagBody | None) -> RagBody | None:
    """Return the `rag` object that does what the file search asks for; where both say something, the tool counts.

    Raises:
        InvalidRequestError: The search weighs its two parts in a way that this server has not.
    """
    if search is None:
        return rag
    ours = rag or RagBody.model_validate({})
    changes: Json = {"vector_store_ids": [*dict.fromkeys([*search.vector_store_ids, *(ours.vector_store_ids or ())])]}
    if search.max_num_results is not None:
        changes["num_passages"] = search.max_num_results
    if search.filters is not None:
        both = [search.filters, *([] if ours.filters is None else [ours.filters])]
        changes["filters"] = both[0] if len(both) == 1 else {"type": "and", "filters": both}
    ranking = search.ranking_options
    if ranking is not None and ranking.ranker == "none":
        changes["rerank"] = "none"
    if ranking is not None and ranking.hybrid_search is not None:
        changes["retrieve"] = _retrieval(ranking.hybrid_search)
    return ours.model_copy(update=changes)


def chat_request(body: ResponseBody, plan: ToolPlan, messages: Sequence[Json], *, model: str) -> Json:
    """Return the body of the chat request, always streamed; fields that this server does not know are part of it.

    Raises:
        InvalidRequestError: One of them is a chat completion's, which a response has under another name or not at all.
    """
    for name in sorted(CHAT_ONLY & (body.model_extra or {}).keys()):
        raise InvalidRequestError(f"responses have no {name}; the length of an answer is max_output_tokens", name)
    request: Json = {
        **(body.model_extra or {}),
        "model": model,
        "messages": list(messages),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    request |= {name: getattr(body, name) for name in _SAME if getattr(body, name) is not None}
    # Every engine knows it; `max_completion_tokens` is younger.
    request |= {} if body.max_output_tokens is None else {"max_tokens": body.max_output_tokens}
    if LOGPROBS in (body.include or ()):
        request |= {"logprobs": True, "top_logprobs": body.top_logprobs or 0}
    if body.reasoning is not None and body.reasoning.effort is not None:
        request["reasoning_effort"] = body.reasoning.effort
    return {**request, **_shape_of_answer(body), **_functions(body, plan)}


def _shape_of_answer(body: ResponseBody) -> Json:
    if body.text is None:
        return {}
    shape: Json = {} if body.text.verbosity is None else {"verbosity": body.text.verbosity}
    wanted = body.text.format
    if wanted is None or wanted.type == "text":
        return shape
    if wanted.type == "json_object":
        return {**shape, "response_format": {"type": "json_object"}}
    return {**shape, "response_format": {"type": "json_schema", "json_schema": _json_schema(wanted)}}


def _json_schema(wanted: TextFormat) -> Json:
    if wanted.name is None or wanted.schema_ is None:
        raise InvalidRequestError("a json_schema needs a name and a schema", "text.format")
    return _without_null(wanted.model_dump(by_alias=True, exclude={"type"}))


def _without_null(fields: Json) -> Json:
    """Return the fields that are set; inside of a schema null means something, and stays."""
    return {name: value for name, value in fields.items() if value is not None}


def _functions(body: ResponseBody, plan: ToolPlan) -> Json:
    if not plan.functions:
        return {}
    tools = [{"type": "function", "function": _without_null(tool.model_dump(exclude={"type"}))} for tool in plan.functions]
    choice = {} if plan.choice is None else {"tool_choice": plan.choice}
    parallel = {} if body.parallel_tool_calls is None else {"parallel_tool_calls": body.parallel_tool_calls}
    return {"tools": tools, **choice, **parallel}


def _retrieval(weights: HybridSearch) -> RetrieveKind:
    if weights.embedding_weight == weights.text_weight > 0:
        return "hybrid"
    if weights.embedding_weight > 0 == weights.text_weight:
        return "dense"
    if weights.text_weight > 0 == weights.embedding_weight:
        return "lexical"
    raise InvalidRequestError(
        "this server fuses both searches with equal weights; make the weights equal, or one of them 0",
        "tools.ranking_options.hybrid_search",
    )


def _is_meant(tool: FunctionTool | FileSearchTool, named: NamedChoice) -> bool:
    return tool.type == named.type and (not isinstance(tool, FunctionTool) or tool.name == named.name)


def _check_there(named: NamedChoice, tools: Sequence[FunctionTool | FileSearchTool]) -> None:
    if not any(_is_meant(tool, named) for tool in tools):
        what = "file_search" if named.type == "file_search" else f"function {named.name!r}"
        raise InvalidRequestError(f"tool_choice names the {what}, which is not among the tools", "tool_choice")
