"""The scripted engine's answers on the wire: chat completions, text completions and embeddings, whole and in chunks."""

import base64
import hashlib
import json
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rag_server.engines.scripted_answers import Reply, count_tokens

Json = dict[str, Any]
EMBEDDING_DIMENSION = 8


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """One answer as a completion object or as the chunks of a stream; `logprobs` replaces those of its own tokens."""

    body: Json
    reply: Reply
    prompt_tokens: int
    id: str
    logprobs: Json | None = None

    def completion(self) -> Json:
        """Return it whole."""
        message: Json = {"role": "assistant", "content": "".join(self.reply.tokens), "refusal": None}
        if self.reply.calls:
            message["content"] = None
            message["tool_calls"] = [self._call(index) for index in range(len(self.reply.calls))]
        logprobs = self.logprobs or self._logprobs(self.reply.tokens)
        choices = [
            {"index": index, "message": message, "logprobs": logprobs, "finish_reason": self.reply.finish_reason}
            for index in range(num_choices(self.body))
        ]
        return {**self._head("chat.completion"), "choices": choices, "usage": self._usage()}

    def chunks(self) -> Iterator[Json]:
        """Yield it in parts."""
        head = self._head("chat.completion.chunk")
        for delta, tokens, finish_reason in self._deltas():
            for index in range(num_choices(self.body)):
                choice = {"index": index, "delta": delta, "finish_reason": finish_reason}
                yield {**head, "choices": [{**choice, "logprobs": self._logprobs(tokens) if tokens else None}]}
        if wants_usage(self.body):
            yield {**head, "choices": [], "usage": self._usage()}

    def _deltas(self) -> Iterator[tuple[Json, Sequence[str], str | None]]:
        """Yield each delta with the tokens that it holds and the reason to stop."""
        yield {"role": "assistant", "content": None if self.reply.calls else ""}, (), None
        for token in self.reply.tokens:
            yield {"content": token}, (token,), None
        for index, call in enumerate(self.reply.calls):
            begun = self._call(index)
            yield {"tool_calls": [{**begun, "index": index, "function": {"name": call.name, "arguments": ""}}]}, (), None
            half = len(call.arguments) // 2
            for part in (call.arguments[:half], call.arguments[half:]):
                yield {"tool_calls": [{"index": index, "function": {"arguments": part}}]}, (), None
        yield {}, (), self.reply.finish_reason

    def _call(self, index: int) -> Json:
        call = self.reply.calls[index]
        function = {"name": call.name, "arguments": call.arguments}
        return {"id": f"call_{self.id}_{index}", "type": "function", "function": function}

    def _logprobs(self, tokens: Sequence[str]) -> Json | None:
        if self.body.get("logprobs") is not True:
            return None
        asked = self.body.get("top_logprobs")
        content = [
            {**_entry(token, 0), "top_logprobs": [_entry(token, place) for place in range(asked or 0)]} for token in tokens
        ]
        return {"content": content, "refusal": None}

    def _usage(self) -> Json:
        spoken = len(self.reply.tokens) + sum(count_tokens(call.arguments) for call in self.reply.calls)
        return usage(self.prompt_tokens, spoken * num_choices(self.body))

    def _head(self, kind: str) -> Json:
        return {**_head(self.body, kind), "id": self.id}


@dataclass(frozen=True, slots=True)
class TextAnswer:
    """The answers to the prompts of a text completion; `prompts` are their texts."""

    body: Json
    prompts: tuple[str, ...]
    replies: tuple[Reply, ...]
    id: str

    def completion(self) -> Json:
        """Return it whole."""
        choices = [self._choice(index, self._tokens(index), self._reply(index).finish_reason) for index in self._indices]
        return {**self._head(), "choices": choices, "usage": self._usage()}

    def chunks(self) -> Iterator[Json]:
        """Yield it in parts, one token at a time."""
        for index in self._indices:
            for token in self._tokens(index):
                yield {**self._head(), "choices": [self._choice(index, (token,), None)]}
            yield {**self._head(), "choices": [self._choice(index, (), self._reply(index).finish_reason)]}
        if wants_usage(self.body):
            yield {**self._head(), "choices": [], "usage": self._usage()}

    @property
    def _indices(self) -> range:
        return range(len(self.prompts) * num_choices(self.body))

    def _reply(self, index: int) -> Reply:
        return self.replies[index // num_choices(self.body)]

    def _tokens(self, index: int) -> tuple[str, ...]:
        echoed = (self.prompts[index // num_choices(self.body)],) if self.body.get("echo") is True else ()
        return (*echoed, *self._reply(index).tokens)

    def _choice(self, index: int, tokens: Sequence[str], finish_reason: str | None) -> Json:
        choice = {"index": index, "text": "".join(tokens), "finish_reason": finish_reason}
        return {**choice, "logprobs": self._logprobs(tokens)}

    def _logprobs(self, tokens: Sequence[str]) -> Json | None:
        asked = self.body.get("logprobs")
        if not isinstance(asked, int):
            return None
        entries = [_entry(token, 0) for token in tokens]
        return {
            "tokens": list(tokens),
            "token_logprobs": [entry["logprob"] for entry in entries],
            "top_logprobs": [{_entry(token, place)["token"]: -1.0 - place for place in range(asked)} for token in tokens],
            "text_offset": [sum(map(len, tokens[:place])) for place in range(len(tokens))],
        }

    def _usage(self) -> Json:
        prompt_tokens = sum(count_tokens(prompt) for prompt in self.prompts)
        return usage(prompt_tokens, sum(len(self._reply(index).tokens) for index in self._indices))

    def _head(self) -> Json:
        return {**_head(self.body, "text_completion"), "id": self.id}


def embeddings(body: Json, texts: Sequence[str]) -> Json:
    """Return a vector per text that depends on the text alone."""
    dimension = body.get("dimensions") or EMBEDDING_DIMENSION
    vectors = [_vector(text, dimension) for text in texts]
    if body.get("encoding_format") == "base64":
        coded: Sequence[Any] = [base64.b64encode(struct.pack(f"<{dimension}f", *vector)).decode() for vector in vectors]
    else:
        coded = vectors
    tokens = sum(count_tokens(text) for text in texts)
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(coded)]
    return {
        "object": "list",
        "model": body["model"],
        "data": data,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def usage(prompt_tokens: int, completion_tokens: int) -> Json:
    """Return OpenAI's usage object."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def num_choices(body: Mapping[str, Any]) -> int:
    """Return how many answers a request asks for."""
    n = body.get("n")
    return n if isinstance(n, int) else 1


def wants_usage(body: Mapping[str, Any]) -> bool:
    """Return whether the stream ends with the usage."""
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _head(body: Mapping[str, Any], kind: str) -> Json:
    # Says which seed arrived.
    fingerprint = "scripted" if body.get("seed") is None else f"scripted-{body['seed']}"
    return {"object": kind, "created": int(time.time()), "model": body["model"], "system_fingerprint": fingerprint}


def _entry(token: str, place: int) -> Json:
    """Return the token, or another one that is less likely the larger its place."""
    text = token if place == 0 else f"{token}~{place}"
    return {"token": text, "logprob": -1.0 - place, "bytes": list(text.encode())}


def _vector(text: str, dimension: int) -> list[float]:
    seed = hashlib.sha256(json.dumps(text).encode()).digest()
    numbers = [byte / 255 for byte in (seed * (dimension // len(seed) + 1))[:dimension]]
    length = sum(number * number for number in numbers) ** 0.5 or 1.0
    return [number / length for number in numbers]
