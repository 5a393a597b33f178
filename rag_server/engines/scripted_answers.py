"""What the scripted engine says to a conversation: a ranking, a call of a tool, an instance of a schema, or a sentence."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rag_server.engines.scripted_ranking import scripted_ranking

# The passages of rag_server/prompt.py: "---", "[1] title", the text, "---".
PASSAGE = re.compile(r"(?<=---\n)\[(\d+)\] [^\n]*\n(.*?)(?=\n---\n)", re.DOTALL)
QUESTION = re.compile(r"Question: (.*)\Z", re.DOTALL)
WORD = re.compile(r"\w+")
TOKEN = re.compile(r"\s*\S+|\s+")
# A user who writes this gets the tool called, if the request has it.
CALL = re.compile(r"\bcall (\S+) with (?=\{)")
MAX_SCHEMA_DEPTH = 20


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the client shall run; `arguments` is JSON."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What is said, in tokens, or which tools are called instead."""

    tokens: tuple[str, ...]
    finish_reason: str
    calls: tuple[ToolCall, ...] = ()


def reply(body: Mapping[str, Any], answer: str | None, limit: int) -> Reply:
    """Return the answer to a chat request; `answer` None makes one up, `limit` is the number of tokens that it may have."""
    calls = tuple(tool_calls(body))
    if calls:
        return Reply((), "tool_calls", calls)
    schema = _schema(body.get("response_format"))
    if answer is None:
        answer = scripted_answer(body["messages"]) if schema is None else json.dumps(instance_of(schema, schema))
    return spoken(answer, body.get("stop"), limit)


def spoken(text: str, stop: object, limit: int) -> Reply:
    """Return the text up to the first of the stop strings, and no longer than `limit` tokens."""
    stops = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []
    ends = [text.find(string) for string in stops if isinstance(string, str) and string in text]
    tokens = TOKEN.findall(text[: min(ends)] if ends else text)
    return Reply(tuple(tokens[:limit]), "length" if len(tokens) > limit else "stop")


def scripted_answer(messages: Sequence[dict[str, object]]) -> str:
    """Return a ranking; or the sentence that shares most words with the question, and its passage's mark; or an echo."""
    if messages and messages[-1].get("role") == "tool":
        return f"The tool said: {' '.join(content_texts(messages[-1]))}"
    last = _last_question(messages)
    ranking = scripted_ranking(last)
    if ranking is not None:
        return ranking
    question = QUESTION.search(last)
    passages = PASSAGE.findall(last)
    if question is None or not passages:
        return f"You said: {question.group(1) if question else last}"
    asked = set(WORD.findall(question.group(1).lower()))
    number, text = max(passages, key=lambda passage: len(asked & set(WORD.findall(passage[1].lower()))))
    sentences = re.split(r"(?<=[.!?])\s+|\n+", text.strip())
    best = max(sentences, key=lambda sentence: len(asked & set(WORD.findall(sentence.lower()))))
    return f"{best} [{number}]"


def tool_calls(body: Mapping[str, Any]) -> Iterator[ToolCall]:
    """Yield the calls that the last user message asks for in as many words, or the one that `tool_choice` demands."""
    functions = {tool["function"]["name"]: tool["function"] for tool in body.get("tools") or [] if _is_function(tool)}
    choice, messages = body.get("tool_choice"), body["messages"]
    if not functions or choice == "none" or not messages or messages[-1].get("role") != "user":
        return
    last = _last_question(messages)
    question = QUESTION.search(last)
    asked = list(_asked_calls(question.group(1) if question else last, functions))
    if body.get("parallel_tool_calls") is False:
        asked = asked[:1]
    yield from asked
    if asked or choice in (None, "auto"):
        return
    named = choice.get("function", {}).get("name") if isinstance(choice, dict) else next(iter(functions))
    if named in functions:
        schema = functions[named].get("parameters") or {}
        yield ToolCall(named, json.dumps(instance_of(schema, schema)))


def instance_of(schema: Any, root: Any, depth: int = 0) -> Any:
    """Return a small value that fits a JSON schema, as far as the keywords of structured outputs go."""
    if not isinstance(schema, dict) or depth > MAX_SCHEMA_DEPTH:
        return None
    if "$ref" in schema:
        return instance_of(_resolved(schema["$ref"], root), root, depth + 1)
    for keyword in ("const", "default"):
        if keyword in schema:
            return schema[keyword]
    if schema.get("enum"):
        return schema["enum"][0]
    for keyword in ("anyOf", "oneOf", "allOf"):
        if schema.get(keyword):
            return instance_of(schema[keyword][0], root, depth + 1)
    kinds = schema.get("type", "object" if "properties" in schema else "string")
    kind = kinds if isinstance(kinds, str) else next((kind for kind in kinds if kind != "null"), "null")
    return _instance_of_kind(kind, schema, root, depth)


def content_texts(message: Mapping[str, object]) -> Iterator[str]:
    """Yield the texts of a message's content, which is a string or a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        yield content
    for part in content if isinstance(content, list) else []:
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            yield part["text"]


def count_tokens(text: str) -> int:
    """Return the number of words of a text."""
    return len(text.split())


def _last_question(messages: Sequence[Mapping[str, object]]) -> str:
    of_user = (text for message in reversed(messages) for text in content_texts(message) if message.get("role") == "user")
    return next(of_user, "")


def _asked_calls(text: str, functions: Mapping[str, Any]) -> Iterator[ToolCall]:
    for match in CALL.finditer(text):
        try:
            arguments, _ = json.JSONDecoder().raw_decode(text[match.end() :])
        except ValueError:
            continue
        if match.group(1) in functions:
            yield ToolCall(match.group(1), json.dumps(arguments))


def _is_function(tool: object) -> bool:
    return isinstance(tool, dict) and isinstance(tool.get("function"), dict) and isinstance(tool["function"].get("name"), str)


def _schema(response_format: object) -> Any:
    """Return the JSON schema that the answer has to fit, None for free text."""
    if not isinstance(response_format, dict):
        return None
    if response_format.get("type") == "json_object":
        return {"type": "object"}
    described = response_format.get("json_schema")
    return described.get("schema") or {"type": "object"} if isinstance(described, dict) else None


def _resolved(reference: str, root: Any) -> Any:
    found = root
    for part in reference.removeprefix("#/").split("/"):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _instance_of_kind(kind: str, schema: Mapping[str, Any], root: Any, depth: int) -> Any:
    if kind == "object":
        properties = schema.get("properties") or {}
        return {name: instance_of(properties.get(name, {}), root, depth + 1) for name in schema.get("required") or ()}
    if kind == "array":
        return [instance_of(schema.get("items") or {}, root, depth + 1)] * int(schema.get("minItems") or 0)
    if kind in ("integer", "number"):
        return schema.get("minimum", 0)
    if kind == "string":
        return "scripted".ljust(int(schema.get("minLength") or 0), ".")[: schema.get("maxLength")]
    return True if kind == "boolean" else None
