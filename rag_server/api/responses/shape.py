"""OpenAI's Response object: what it repeats of the request, and what of it is shown."""

import time
from collections.abc import Iterable, Iterator, Sequence

from rag_server.api.errors import describe
from rag_server.api.responses.bodies import ResponseBody
from rag_server.api.responses.chat_request import LOGPROBS
from rag_server.errors import RagServerError
from rag_server.protocols import Json

RESULTS = "file_search_call.results"


def new_response(body: ResponseBody, *, response_id: str, model: str, status: str) -> Json:
    """Return a response that has no output yet. Without a value stand those that OpenAI names as defaults."""
    response: Json = {
        "id": response_id,
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "model": model,
        "output": [],
        "previous_response_id": body.previous_response_id,
        "conversation": None if body.conversation is None else {"id": body.conversation.id},
        "tools": [tool.shown() for tool in body.tools or ()],
        "tool_choice": _choice(body),
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "text": _text(body),
        "reasoning": {"effort": None, "summary": None, **_reasoning(body)},
        "truncation": body.truncation or "disabled",
        "metadata": body.metadata or {},
        "background": body.background is True,
        "store": body.is_kept,
        # As it was worked on; an engine may know others.
        "service_tier": "default",
    }
    defaults = {"temperature": 1.0, "top_p": 1.0, "frequency_penalty": 0.0, "presence_penalty": 0.0, "top_logprobs": 0}
    response |= {name: default if getattr(body, name) is None else getattr(body, name) for name, default in defaults.items()}
    nullable = ("max_output_tokens", "max_tool_calls", "safety_identifier", "prompt_cache_key")
    response |= {name: getattr(body, name) for name in nullable}
    # Never null in OpenAI's description.
    return response if body.user is None else {**response, "user": body.user}


def shown_response(response: Json, include: Sequence[str] | None) -> Json:
    """Return a response with what is left out of its output unless a request asks for it."""
    return {**response, "output": shown_items(response["output"], include)}


def shown_items(items: Iterable[Json], include: Sequence[str] | None) -> list[Json]:
    """Return items without results of searches and probabilities of tokens, unless `include` names them."""
    return [shown_item(item, include) for item in items]


def shown_item(item: Json, include: Sequence[str] | None) -> Json:
    """Return an item; see `shown_items`."""
    if item["type"] == "file_search_call" and RESULTS not in (include or ()):
        return {**item, "results": None}
    if item["type"] == "message" and LOGPROBS not in (include or ()):
        return {**item, "content": [{**part, "logprobs": []} if part.get("logprobs") else part for part in item["content"]]}
    return item


def usage_object(usage: Json) -> Json:
    """Return the engine's usage as responses have it."""
    prompt, output = _number(usage, "prompt_tokens"), _number(usage, "completion_tokens")
    of_prompt, of_output = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    return {
        "input_tokens": prompt,
        "input_tokens_details": {
            "cached_tokens": _number(of_prompt, "cached_tokens"),
            "cache_write_tokens": _number(of_prompt, "cache_write_tokens"),
        },
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": _number(of_output, "reasoning_tokens")},
        "total_tokens": prompt + output,
    }


def flat_annotations(annotations: Iterable[Json]) -> Iterator[Json]:
    """Yield a chat answer's annotations as responses have them: without the object inside.

    The index of a file citation is where it stands in the text: at the end of the stretch that its `url_citation` names.
    """
    end = 0
    for annotation in annotations:
        inner = annotation.get(annotation.get("type", ""))
        if annotation.get("type") == "url_citation" and isinstance(inner, dict):
            end = inner["end_index"]
            yield {"type": "url_citation", **inner}
        elif annotation.get("type") == "file_citation" and isinstance(inner, dict):
            yield {"type": "file_citation", **inner, "index": end}


def logprobs_of(logprobs: Json | None) -> list[Json]:
    """Return the log-probabilities of a chunk's tokens, each with the bytes that OpenAI's always have."""
    return [
        {**_token(entry), "top_logprobs": [_token(other) for other in entry.get("top_logprobs") or ()]}
        for entry in (logprobs or {}).get("content") or ()
    ]


def _token(entry: Json) -> Json:
    text = entry["token"]
    return {"token": text, "logprob": entry["logprob"], "bytes": entry.get("bytes") or list(text.encode())}


def response_error(error: RagServerError) -> Json:
    """Return the error of a failed response; the codes are the few that OpenAI has for it."""
    status, body = describe(error)
    code = "rate_limit_exceeded" if status == 429 else "invalid_prompt" if 400 <= status < 500 else "server_error"
    return {"code": code, "message": body["error"]["message"]}


def _number(values: Json, name: str) -> int:
    value = values.get(name)
    return value if isinstance(value, int) and value >= 0 else 0


def _choice(body: ResponseBody) -> str | Json:
    choice = body.tool_choice
    return choice or "auto" if isinstance(choice, str | None) else choice.model_dump(exclude_none=True)


def _text(body: ResponseBody) -> Json:
    asked = body.text
    wanted: Json = {"type": "text"}
    if asked is not None and asked.format is not None:
        wanted = {name: value for name, value in asked.format.model_dump(by_alias=True).items() if value is not None}
    return {"format": wanted, "verbosity": (asked and asked.verbosity) or "medium"}


def _reasoning(body: ResponseBody) -> Json:
    return {} if body.reasoning is None else body.reasoning.model_dump(exclude_unset=True)
