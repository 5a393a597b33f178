"""A small real HTTP server that speaks the engine's protocol with deterministic answers, for tests and load."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Send

from rag_server.engines.scripted_answers import TOKEN, content_texts, count_tokens, reply, scripted_answer, spoken
from rag_server.engines.scripted_places import Places
from rag_server.engines.scripted_ranking import first_token_logprobs
from rag_server.engines.scripted_shapes import ChatAnswer, TextAnswer, embeddings

MODEL = "scripted"
# As in OpenAI's API, of a text completion that names no limit.
TEXT_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Script:
    """How the engine behaves. `fail_every` and `break_after_tokens` of 0 mean never, `max_running` of 0 as many as come.

    `adapters` are further models, each with what it says to a chat; None makes an answer up, as the first model does.
    """

    answer: str | None = None
    time_to_first_token_s: float = 0.0
    tokens_per_s: float = 0.0
    fail_every: int = 0
    break_after_tokens: int = 0
    context_length: int = 8192
    max_running: int = 0
    adapters: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(slots=True)
class Stats:
    """What the engine has seen: `aborted` counts answers that the client did not wait for, `running` those on their way."""

    requests: int = 0
    finished: int = 0
    aborted: int = 0
    running: int = 0


class ScriptedEngine:
    """The endpoints, with the state that they share."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.stats = Stats()
        self._places = Places(script.max_running)
        self._vocabulary: dict[str, int] = {}

    async def models(self, _: Request) -> Response:
        """Answer GET /v1/models as vLLM does."""
        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "rag-server"}
        adapters = [{**model, "id": name, "parent": MODEL, "max_model_len": None} for name in self.script.adapters]
        return JSONResponse({"object": "list", "data": [{**model, "max_model_len": self.script.context_length}, *adapters]})

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

    async def metrics(self, _: Request) -> Response:
        """Answer GET /metrics as vLLM does, with what is told there of its queue."""
        numbers = {"running": self.stats.running, "waiting": self._places.waiting}
        lines = [
            f'# TYPE vllm:num_requests_{name} gauge\nvllm:num_requests_{name}{{engine="0",model_name="{MODEL}"}} {number}.0\n'
            for name, number in numbers.items()
        ]
        return Response("".join(lines), media_type="text/plain; version=0.0.4")

    async def read_stats(self, _: Request) -> Response:
        """Answer GET /scripted/stats."""
        return JSONResponse(asdict(self.stats))

    async def chat(self, request: Request) -> Response:
        """Answer POST /v1/chat/completions."""
        body = await self._accepted(request)
        if isinstance(body, Response):
            return body
        messages = body.get("messages")
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            return _error(400, "The body must be a JSON object with messages.", param="messages")
        prompt_tokens = sum(count_tokens(text) for text in _texts(body))
        if prompt_tokens + 1 > self.script.context_length:
            return self._too_long()
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or self.script.context_length
        answer = ChatAnswer(
            body,
            reply(body, self.script.adapters.get(body["model"], self.script.answer), limit),
            prompt_tokens,
            f"chatcmpl-{self.stats.requests}",
            self._logprobs(body),
        )
        return await self._answered(request, body, answer, len(answer.reply.tokens))

    async def complete(self, request: Request) -> Response:
        """Answer POST /v1/completions."""
        body = await self._accepted(request)
        if isinstance(body, Response):
            return body
        prompts = tuple(self._prompts(body.get("prompt")))
        if not prompts:
            return _error(400, "The body must be a JSON object with a prompt.", param="prompt")
        if max(count_tokens(prompt) for prompt in prompts) + 1 > self.script.context_length:
            return self._too_long()
        asked = body.get("max_tokens")
        limit = asked if isinstance(asked, int) else TEXT_TOKENS
        said = [self.script.answer or scripted_answer([{"role": "user", "content": prompt}]) for prompt in prompts]
        replies = tuple(spoken(text, body.get("stop"), limit) for text in said)
        answer = TextAnswer(body, prompts, replies, f"cmpl-{self.stats.requests}")
        return await self._answered(request, body, answer, sum(len(one.tokens) for one in replies))

    async def embed(self, request: Request) -> Response:
        """Answer POST /v1/embeddings."""
        body = await self._accepted(request)
        if isinstance(body, Response):
            return body
        self.stats.finished += 1
        return JSONResponse(embeddings(body, list(self._prompts(body.get("input")))))

    async def _accepted(self, request: Request) -> dict[str, Any] | Response:
        """Return the body of a request, or the refusal."""
        self.stats.requests += 1
        if self.script.fail_every and self.stats.requests % self.script.fail_every == 0:
            return _error(503, "scripted failure", headers={"retry-after": "1"})
        body = await _object(request)
        if body is None:
            return _error(400, "The body must be a JSON object.")
        if body.get("model") not in (MODEL, *self.script.adapters):
            return _error(404, f"The model `{body.get('model')}` does not exist.", param="model")
        return body

    async def _answered(
        self, request: Request, body: dict[str, Any], answer: ChatAnswer | TextAnswer, num_tokens: int
    ) -> Response:
        if body.get("stream"):
            breaks = 0 < self.script.break_after_tokens <= num_tokens
            response = _CutResponse if breaks else StreamingResponse
            return response(self._stream(answer), media_type="text/event-stream")
        async with self._places.place():
            self.stats.running += 1
            completed = await _stays(request, self.script.time_to_first_token_s + num_tokens * self._token_s)
            self._ended(completed=completed)
        return JSONResponse(answer.completion())

    def _ended(self, *, completed: bool) -> None:
        self.stats.running -= 1
        self.stats.finished += completed
        self.stats.aborted += not completed

    def _logprobs(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """Return the log-probabilities of the tokens that the request names, at the first position, as vLLM does."""
        asked = body.get("logprob_token_ids")
        if not isinstance(asked, list):
            return None
        text_of = {id_: text for text, id_ in self._vocabulary.items()}
        top = first_token_logprobs("\n".join(_texts(body)), [(id_, text_of.get(id_, "")) for id_ in asked])
        return {"content": [{"token": "", "logprob": 0.0, "bytes": [], "top_logprobs": top}], "refusal": None}

    def _prompts(self, prompt: object) -> Iterator[str]:
        """Yield the text of each prompt; token ids are those of /tokenize."""
        if isinstance(prompt, str):
            yield prompt
        elif isinstance(prompt, list) and prompt and all(isinstance(token, int) for token in prompt):
            text_of = {id_: text for text, id_ in self._vocabulary.items()}
            yield "".join(text_of.get(token, f" {token}") for token in prompt)
        elif isinstance(prompt, list):
            for one in prompt:
                yield from self._prompts(one)

    def _too_long(self) -> Response:
        return _error(400, f"This model's maximum context length is {self.script.context_length} tokens.")

    @property
    def _token_s(self) -> float:
        return 1 / self.script.tokens_per_s if self.script.tokens_per_s else 0.0

    async def _stream(self, answer: ChatAnswer | TextAnswer) -> AsyncIterator[str]:
        async with self._places.place(), aclosing(self._events(answer)) as events:
            async for event in events:
                yield event

    async def _events(self, answer: ChatAnswer | TextAnswer) -> AsyncGenerator[str, None]:
        completed = False
        self.stats.running += 1
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
            self._ended(completed=completed)


class _CutResponse(StreamingResponse):
    """A stream whose connection is cut after its last part: the server closes it, since the end is never sent."""

    async def stream_response(self, send: Send) -> None:
        async def send_all_but_the_end(message: Message) -> None:
            if message["type"] != "http.response.body" or message["more_body"]:
                await send(message)

        await super().stream_response(send_all_but_the_end)


def create_app(script: Script) -> Starlette:
    """Return the server's application."""
    engine = ScriptedEngine(script)
    return Starlette(
        routes=[
            Route("/v1/models", engine.models),
            Route("/v1/chat/completions", engine.chat, methods=["POST"]),
            Route("/v1/completions", engine.complete, methods=["POST"]),
            Route("/v1/embeddings", engine.embed, methods=["POST"]),
            Route("/tokenize", engine.tokenize, methods=["POST"]),
            Route("/health", engine.health),
            Route("/metrics", engine.metrics),
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


def _texts(body: dict[str, Any]) -> Iterator[str]:
    prompt, messages = body.get("prompt"), body.get("messages")
    if isinstance(prompt, str):
        yield prompt
    for message in messages if isinstance(messages, list) else []:
        yield from content_texts(message)


def _error(status: int, message: str, *, param: str | None = None, headers: dict[str, str] | None = None) -> Response:
    error = {"message": message, "type": "scripted_error", "param": param, "code": status}
    return JSONResponse({"error": error}, status_code=status, headers=headers)
