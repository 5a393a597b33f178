"""The client for OpenAI-compatible engines: requests pass as they are, answers too, with what OpenAI's never lack."""

import json
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager

import structlog

from rag_server.engines.answer_shapes import CHAT_ID, TEXT_ID, StreamShape, completed_chat, completed_text
from rag_server.engines.engine_json import parsed
from rag_server.engines.http_client import EngineHttpClient
from rag_server.engines.refusals import refusal
from rag_server.engines.replicas import Replicas
from rag_server.errors import EngineProtocolError, EngineRequestError, EngineUnavailableError
from rag_server.event_lines import event_data
from rag_server.protocols import Json
from rag_server.spans import Span
from rag_server.usage import current_record, note_prompt_cache, tokens_of, traced

log = structlog.get_logger()

# How long the engine's list of models is trusted when a request only needs a name or a context length.
MODELS_KEPT_S = 30.0
# Used where an endpoint does not tell its context length and none is configured.
ASSUMED_CONTEXT_LENGTH = 8192
# No tokenizer in use makes more tokens of a text than this share of its UTF-8 bytes, but for odd ones; templates add some.
ESTIMATED_BYTES_PER_TOKEN = 2
TEMPLATE_TOKENS_PER_MESSAGE = 8
# As OpenTelemetry names them.
_OPERATIONS = {"/chat/completions": "chat", "/completions": "text_completion", "/embeddings": "embeddings"}


class OpenAIHttpEngine:
    """An engine at a base URL ending in /v1, or at several with commas between them, which share its requests.

    The URL is asked for at each request, since a restarted child has a new one.
    """

    def __init__(
        self,
        base_url: Callable[[], str],
        *,
        api_key: str | None = None,
        timeout_s: float = 600.0,
        context_length: int | None = None,
        model: str | None = None,
        request_defaults: Json | None = None,
        takes_priority: bool = False,
    ) -> None:
        """Connect to nothing yet; only an engine with `takes_priority` is told which requests may wait: others refuse it."""
        self._http = EngineHttpClient(Replicas(base_url), api_key=api_key, timeout_s=timeout_s)
        self._configured_context_length = context_length
        self._configured_model = model
        self._request_defaults = request_defaults or {}
        self._takes_priority = takes_priority
        self._counts_tokens = True
        self._known_models: tuple[float, list[Json]] = (0.0, [])
        # Requests of this process that the engine has not answered to their end.
        self.num_asked = 0

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def models(self) -> list[Json]:
        """Return the engine's own model objects."""
        answer = await self._http.request("GET", "/models")
        models = answer.get("data")
        if not isinstance(models, list) or not all(isinstance(model, dict) for model in models):
            raise EngineProtocolError("the engine's list of models has no data")
        self._known_models = (time.monotonic(), models)
        return models

    async def faults(self, timeout_s: float) -> list[str | None]:
        """Return, of each replica in the order of its addresses, why it does not list its models in that time, None if it does.

        Raises:
            EngineUnavailableError: The engine is a child of this server and has no address now.
        """
        return await self._http.faults("/models", timeout_s)

    async def default_model(self) -> str:
        """Return the id of the configured model, or of the engine's first one."""
        if self._configured_model is not None:
            return self._configured_model
        models = await self._recent_models()
        if not models or not isinstance(models[0].get("id"), str):
            raise EngineUnavailableError("the engine serves no model")
        return str(models[0]["id"])

    async def chat(self, body: Json) -> Json:
        """Return the completion of a chat request."""
        return completed_chat(await self._post("/chat/completions", self._asked(body)), body)

    async def stream_chat(self, body: Json) -> AsyncGenerator[Json, None]:
        """Yield the chunks of a streamed chat request; closing the iterator ends the engine's work.

        Raises:
            EngineUnavailableError: Nothing was streamed, and further tries did not help.
            EngineProtocolError: The stream broke off; it is never tried again, since a part of it was already handed on.
        """
        shape = StreamShape(body, "chat.completion.chunk", CHAT_ID)
        async with aclosing(self._stream("/chat/completions", self._asked(body))) as chunks:
            async for chunk in chunks:
                yield shape.chat_chunk(chunk)

    async def complete(self, body: Json) -> Json:
        """Return the completion of a text request."""
        return completed_text(await self._post("/completions", self._asked(body)), body)

    async def stream_complete(self, body: Json) -> AsyncGenerator[Json, None]:
        """Yield the chunks of a streamed text request; see `stream_chat`."""
        shape = StreamShape(body, "text_completion", TEXT_ID)
        async with aclosing(self._stream("/completions", self._asked(body))) as chunks:
            async for chunk in chunks:
                yield shape.text_chunk(chunk)

    async def embed(self, body: Json) -> Json:
        """Return the engine's own embeddings."""
        return await self._post("/embeddings", body)

    async def serves(self, model: str) -> bool:
        """Return whether the engine lists a model of that name."""
        return any(entry.get("id") == model for entry in await self._recent_models())

    async def count_tokens(self, model: str, messages: Sequence[Json]) -> int:
        """Return the prompt's length in the model's own tokens, or an upper estimate where the engine cannot tell."""
        if self._counts_tokens:
            body = {"model": model, "messages": list(messages)}
            try:
                return int((await self._tokenize(body))["count"])
            except EngineRequestError as error:
                if error.status not in (404, 405, 501):
                    raise
                log.warning("the engine does not count tokens (/tokenize); prompt lengths are estimated from bytes")
                self._counts_tokens = False
        sizes = [len(json.dumps(message, ensure_ascii=False).encode()) for message in messages]
        return sum(size // ESTIMATED_BYTES_PER_TOKEN + TEMPLATE_TOKENS_PER_MESSAGE for size in sizes)

    async def tokenize(self, model: str, text: str) -> list[tuple[int, str]]:
        """Return id and string of every token of `text`, without special tokens, as vLLM's /tokenize tells them."""
        body = {"model": model, "prompt": text, "add_special_tokens": False, "return_token_strs": True}
        answer = await self._tokenize(body)
        try:
            return list(zip(answer["tokens"], answer["token_strs"], strict=True))
        except (KeyError, TypeError, ValueError):
            raise EngineProtocolError("the engine's /tokenize gives no token strings") from None

    async def context_length(self, model: str) -> int:
        """Return how many tokens of prompt and answer together fit: as configured, as the engine tells, or 8,192."""
        if self._configured_context_length is not None:
            return self._configured_context_length
        entries = {entry.get("id"): entry for entry in await self._recent_models()}
        entry = entries.get(model, {})
        # vLLM tells that of an adapter with the model that it belongs to.
        length = entry.get("max_model_len") or entries.get(entry.get("parent"), {}).get("max_model_len")
        return length if isinstance(length, int) else ASSUMED_CONTEXT_LENGTH

    def _asked(self, body: Json) -> Json:
        """Return the request as it is sent. Who is served first is said here, and not by clients."""
        record = current_record()
        priority = {"priority": 0 if record is None else record.priority} if self._takes_priority else {}
        return {**self._request_defaults, **body, **priority}

    async def _post(self, path: str, body: Json) -> Json:
        with traced(_OPERATIONS[path], model=str(body.get("model"))) as span:
            with self._asking():
                answer = await self._http.request("POST", path, body)
            _say_usage(span, answer)
            note_prompt_cache(answer.get("usage"))
            return answer

    async def _stream(self, path: str, body: Json) -> AsyncGenerator[Json, None]:
        with traced(_OPERATIONS[path], model=str(body.get("model"))) as span:
            usage: object = None
            async with aclosing(self._chunks(path, body)) as chunks:
                async for chunk in chunks:
                    _say_usage(span, chunk)
                    usage = chunk.get("usage") or usage
                    yield chunk
            # Some engines tell it with every chunk.
            note_prompt_cache(usage)

    async def _chunks(self, path: str, body: Json) -> AsyncGenerator[Json, None]:
        with self._asking():
            async with (
                aclosing(self._http.stream("POST", path, body)) as parts,
                aclosing(_events(parts)) as events,
            ):
                async for event in events:
                    yield event

    @contextmanager
    def _asking(self) -> Iterator[None]:
        self.num_asked += 1
        try:
            yield
        finally:
            self.num_asked -= 1

    async def _tokenize(self, body: Json) -> Json:
        return await self._http.request("POST", "/tokenize", body)

    async def _recent_models(self) -> list[Json]:
        read_at, models = self._known_models
        fresh = time.monotonic() - read_at < MODELS_KEPT_S
        return models if models and fresh else await self.models()


async def _events(parts: AsyncIterable[bytes]) -> AsyncGenerator[Json, None]:
    """Yield the JSON objects of a server-sent-event stream up to [DONE]."""
    async with aclosing(event_data(parts)) as lines:
        async for data in lines:
            if data == "[DONE]":
                return
            try:
                event = parsed(data)
            except ValueError:
                raise EngineProtocolError("the engine streamed something that is no JSON") from None
            if not isinstance(event, dict):
                raise EngineProtocolError("the engine streamed something that is no JSON object")
            if event.get("error") is not None:
                raise _failure(event)
            yield event
    raise EngineProtocolError("the engine's answer broke off before its end")


def _say_usage(span: Span, answer: Json) -> None:
    if isinstance(usage := answer.get("usage"), dict):
        prompt, output = tokens_of(usage)
        span.set(prompt_tokens=prompt, output_tokens=output)


def _failure(event: Json) -> EngineRequestError | EngineProtocolError:
    """Return the error of a stream that ends with one; what is the engine's own fault is in the log only."""
    error = event["error"]
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, int) and 400 <= code < 500:
        return EngineRequestError(code, refusal(code, event))
    log.error("the engine failed while answering", reason=str(error)[:500])
    return EngineProtocolError("the engine failed while answering; the server's log says how")
