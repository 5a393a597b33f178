"""Text completions by way of chat completions: a prompt as a question, and its answer in the shape of a text completion."""

from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import Any

from rag_server.api.schemas_chat import CompletionBody
from rag_server.errors import InvalidRequestError
from rag_server.protocols import Json

# Of a text completion's fields those that a chat completion has not, or has otherwise.
OWN_FIELDS = ("prompt", "echo", "suffix", "best_of", "logprobs")


def chat_body_of(body: CompletionBody) -> Json:
    """Return the chat request whose question is the prompt; without `max_tokens` the answer is as long as a chat's.

    Raises:
        InvalidRequestError: The request asks for something that an answer from documents has not.
    """
    prompt = body.prompt[0] if isinstance(body.prompt, list) and len(body.prompt) == 1 else body.prompt
    if not isinstance(prompt, str):
        raise InvalidRequestError("with documents the prompt is one question, as a string", "prompt")
    for name, value in (("echo", body.echo), ("suffix", body.suffix), ("best_of", (body.best_of or 1) > 1)):
        if value:
            raise InvalidRequestError("with documents the answer is to a question; leave this out", name)
    chat = {name: value for name, value in body.engine_body().items() if name not in OWN_FIELDS}
    if body.logprobs is not None:
        chat |= {"logprobs": True, "top_logprobs": body.logprobs}
    return {**chat, "messages": [{"role": "user", "content": prompt}]}


class TextAnswers:
    """Turns one chat completion, or the chunks of one, into a text completion."""

    def __init__(self) -> None:
        # By choice: how many characters came before.
        self._offsets: dict[int, int] = defaultdict(int)

    async def whole(self, answer: Awaitable[Json]) -> Json:
        """Return the text completion."""
        return self._text(await answer, "message")

    async def stream(self, chunks: AsyncGenerator[Json, None]) -> AsyncGenerator[Json, None]:
        """Yield the chunks of the text completion."""
        async with aclosing(chunks):
            async for chunk in chunks:
                yield self._text(chunk, "delta")

    def _text(self, answer: Json, part: str) -> Json:
        choices = [
            {
                "index": choice["index"],
                "text": choice[part].get("content") or "",
                "logprobs": self._logprobs(choice["index"], choice.get("logprobs")),
                "finish_reason": choice.get("finish_reason"),
            }
            for choice in answer["choices"]
        ]
        return {**answer, "object": "text_completion", "choices": choices}

    def _logprobs(self, index: int, logprobs: Json | None) -> Json | None:
        """Return the older shape, which has one list for each property of the tokens."""
        if logprobs is None:
            return None
        entries: list[Json] = logprobs.get("content") or []
        offsets = []
        for entry in entries:
            offsets.append(self._offsets[index])
            self._offsets[index] += len(entry["token"])
        top: list[dict[str, Any]] = [{one["token"]: one["logprob"] for one in entry["top_logprobs"]} for entry in entries]
        return {
            "tokens": [entry["token"] for entry in entries],
            "token_logprobs": [entry["logprob"] for entry in entries],
            "top_logprobs": top,
            "text_offset": offsets,
        }
