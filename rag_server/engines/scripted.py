"""A small real HTTP server that speaks the engine's protocol with deterministic answers, for tests and load."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Send

from rag_server.engines.scripted_ranking import first_token_logprobs, scripted_ranking

MODEL = "scripted"
# The passages of rag_server/prompt.py: "---", "[1] title", the text, "---".
PASSAGE = re.compile(r"(?<=---\n)\[(\d+)\] [^\n]*\n(.*?)(?=\n---\n)", re.DOTALL)
QUESTION = re.compile(r"Question: (.*)\Z", re.DOTALL)
WORD = re.compile(r"\w+")
TOKEN = re.compile(r"\s*\S+|\s+")


@dataclass(frozen=True, slots=True)
class Script:
    """How the engine behaves. `fail_every` and `break_after_tokens` of 0 mean never."""

    answer: str | None = None
    time_to_first_token_s: float = 0.0
    tokens_per_s: float = 0.0
    fail_every: int = 0
    break_after_tokens: int = 0
    context_length: int = 8192


@dataclass(slots=True)
class Stats:
    """What the engine has seen: `aborted` counts answers that the client did not wait for."""

    requests: int = 0
    finished: int = 0
    aborted: int = 0


class ScriptedEngine:
    """The endpoints, with the state that they share."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.stats = Stats()
        self._vocabulary: dict[str, int] = {}

    async def models(self, _: Request) -> Response:
        """Answer GET /v1/models as vLLM does."""
        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "rag-server"}
        return JSONResponse({"object": "list", "data": [{**model, "max_model_len": self.script.context_length}]})

    async def tokenize(self, request: Request) -> Response:
        """Answer POST /tokenize as vLLM does; a token is a word with the white space before it."""
        body = await _object(request) or {}
        texts = [token for text in _texts(body) for token in TOKEN.findall(text) if not token.isspace()]
        ids = [self._vocabulary.setdefault(token, len(self._vocabulary)) for token in texts]
        tokens = {"tokens": ids, "token_strs": texts if body.get("return_token_strs") else None}
        return JSONResponse({"count": len(ids), "max_model_len": self.script.context_length, **tokens})

    async def health(self, _: Request) -> Response:
        """Answer GET /health."""
        return Response()

    async def read_stats(self, _: Request) -> Response:
        """Answer GET /scripted/stats."""
        return JSONResponse(asdict(self.stats))

    async def chat(self, request: Request) -> Response:
        """Answer POST /v1/chat/completions."""
        self.stats.requests += 1
        if self.script.fail_every and self.stats.requests % self.script.fail_every == 0:
            return _error(503, "scripted failure", headers={"retry-after": "1"})
        body = await _object(request)
        if body is None or not isinstance(body.get("messages"), list):
            return _error(400, "The body must be a JSON object with messages.")
        if body.get("model") != MODEL:
            return _error(404, f"The model `{body.get('model')}` does not exist.")
        prompt_tokens = sum(count_tokens(text) for text in _texts(body))
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or self.script.context_length
        if prompt_tokens + 1 > self.script.context_length:
            return _error(400, f"This model's maximum context length is {self.script.context_length} tokens.")
        tokens = TOKEN.findall(self.script.answer if self.script.answer is not None else scripted_answer(body["messages"]))
        finish_reason = "length" if len(tokens) > limit else "stop"
        logprobs = self._logprobs(body)
        answer = _Answer(body, tuple(tokens[:limit]), finish_reason, prompt_tokens, f"chatcmpl-{self.stats.requests}", logprobs)
        if body.get("stream"):
            breaks = 0 < self.script.break_after_tokens <= len(answer.tokens)
            response = _CutResponse if breaks else StreamingResponse
            return response(self._stream(answer), media_type="text/event-stream")
        completed = await _stays(request, self.script.time_to_first_token_s + len(answer.tokens) * self._token_s)
        self.stats.finished += completed
        self.stats.aborted += not completed
        return JSONResponse(answer.completion())

    def _logprobs(self, body: dict[str, Any]) -> dict[str, object] | None:
        """Return the log-probabilities of the tokens that the request names, at the first position, as vLLM does."""
        asked = body.get("logprob_token_ids")
        if not isinstance(asked, list):
            return None
        text_of = {id_: text for text, id_ in self._vocabulary.items()}
        tokens = [(id_, text_of.get(id_, "")) for id_ in asked]
        return {"content": [{"top_logprobs": first_token_logprobs("\n".join(_texts(body)), tokens)}]}

    @property
    def _token_s(self) -> float:
        return 1 / self.script.tokens_per_s if self.script.tokens_per_s else 0.0

    async def _stream(self, answer: "_Answer") -> AsyncIterator[str]:
        completed = False
        try:
            await asyncio.sleep(self.script.time_to_first_token_s)
            for number, chunk in enumerate(answer.chunks()):
                if self.script.break_after_tokens and number > self.script.break_after_tokens:
                    return
                yield f"data: {json.dumps(chunk)}\n\n"
                if self._token_s:
                    await asyncio.sleep(self._token_s)
            yield "data: [DONE]\n\n"
            completed = True
        finally:
            self.stats.finished += completed
            self.stats.aborted += not completed


class _CutResponse(StreamingResponse):
    """A stream whose connection is cut after its last part: the server closes it, since the end is never sent."""

    async def stream_response(self, send: Send) -> None:
        async def send_all_but_the_end(message: Message) -> None:
            if message["type"] != "http.response.body" or message["more_body"]:
                await send(message)

        await super().stream_response(send_all_but_the_end)


@dataclass(frozen=True, slots=True)
class _Answer:
    """One answer as a completion object or as the chunks of a stream."""

    body: dict[str, object]
    tokens: tuple[str, ...]
    finish_reason: str
    prompt_tokens: int
    id: str
    logprobs: dict[str, object] | None = None

    @property
    def _num_choices(self) -> int:
        n = self.body.get("n")
        return n if isinstance(n, int) else 1

    def _usage(self) -> dict[str, int]:
        completion_tokens = len(self.tokens) * self._num_choices
        total = self.prompt_tokens + completion_tokens
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}

    def completion(self) -> dict[str, object]:
        message = {"role": "assistant", "content": "".join(self.tokens)}
        choices = [
            {"index": index, "message": message, "logprobs": self.logprobs, "finish_reason": self.finish_reason}
            for index in range(self._num_choices)
        ]
        return {**self._head("chat.completion"), "choices": choices, "usage": self._usage()}

    def chunks(self) -> Iterator[dict[str, object]]:
        head = self._head("chat.completion.chunk")
        deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
        deltas += [({"content": token}, None) for token in self.tokens]
        deltas += [({}, self.finish_reason)]
        for delta, finish_reason in deltas:
            for index in range(self._num_choices):
                yield {**head, "choices": [{"index": index, "delta": delta, "finish_reason": finish_reason}]}
        options = self.body.get("stream_options")
        if isinstance(options, dict) and options.get("include_usage"):
            yield {**head, "choices": [], "usage": self._usage()}

    def _head(self, kind: str) -> dict[str, object]:
        return {"id": self.id, "object": kind, "created": int(time.time()), "model": self.body["model"]}


def scripted_answer(messages: Sequence[dict[str, object]]) -> str:
    """Return a ranking; or the sentence that shares most words with the question, and its passage's mark; or an echo."""
    last = next((text for message in reversed(messages) for text in _content(message) if message.get("role") == "user"), "")
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


def count_tokens(text: str) -> int:
    """Return the number of words of a text."""
    return len(text.split())


def create_app(script: Script) -> Starlette:
    """Return the server's application."""
    engine = ScriptedEngine(script)
    return Starlette(
        routes=[
            Route("/v1/models", engine.models),
            Route("/v1/chat/completions", engine.chat, methods=["POST"]),
            Route("/tokenize", engine.tokenize, methods=["POST"]),
            Route("/health", engine.health),
            Route("/scripted/stats", engine.read_stats),
        ]
    )


def run(script: Script, *, host: str, port: int) -> None:
    """Serve until the process is ended."""
    uvicorn.run(create_app(script), host=host, port=port, log_level="warning")


async def _object(request: Request) -> dict[str, Any] | None:
    """Return the request's body, or None if it is no JSON object."""
    try:
        body = await request.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


async def _stays(request: Request, seconds: float) -> bool:
    """Wait; return False as soon as the client goes away."""
    gone = asyncio.ensure_future(_disconnected(request))
    await asyncio.wait({gone}, timeout=seconds)
    return gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue


def _texts(body: dict[str, object]) -> Iterator[str]:
    prompt, messages = body.get("prompt"), body.get("messages")
    if isinstance(prompt, str):
        yield prompt
    for message in messages if isinstance(messages, list) else []:
        yield from _content(message)


def _content(message: dict[str, object]) -> Iterator[str]:
    content = message.get("content")
    if isinstance(content, str):
        yield content
    for part in content if isinstance(content, list) else []:
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            yield part["text"]


def _error(status: int, message: str, *, headers: dict[str, str] | None = None) -> Response:
    error = {"message": message, "type": "scripted_error", "param": None, "code": status}
    return JSONResponse({"error": error}, status_code=status, headers=headers)
