"""Answers that are one plain text: which requests always get the same one, and how one is told again, whole or as a stream."""

from collections.abc import Iterator

from rag_server.engines.answer_shapes import CHAT_ID, completion_head
from rag_server.protocols import Json

# Of a request with one of these, the answer is more than a text.
MORE_THAN_TEXT = ("tools", "functions", "logprobs", "prompt_logprobs", "audio")
# What of a stream's options says how it is sent, not what it says.
SENDING_OPTIONS = {"include_usage", "include_obfuscation"}
# A text that is told again is streamed in pieces of so many characters.
PIECE_CHARACTERS = 80


def has_one_answer(body: Json) -> bool:
    """Return whether a chat request always gets the same plain text: temperature 0 in as many words, one answer only."""
    temperature = body.get("temperature")
    is_greedy = type(temperature) in (int, float) and temperature == 0
    options = set(body.get("stream_options") or ())
    return is_greedy and body.get("n") in (None, 1) and options <= SENDING_OPTIONS and not any(map(body.get, MORE_THAN_TEXT))


def wants_usage(body: Json) -> bool:
    """Return whether the answer to this request tells its usage: a stream does only where it is asked to."""
    return not body.get("stream") or bool((body.get("stream_options") or {}).get("include_usage"))


class PlainAnswer:
    """Joins an engine's answer, from its chunks or from the whole."""

    def __init__(self) -> None:
        self.usage: Json | None = None
        self._pieces: list[str] = []
        self._is_finished = False
        self._is_plain = True

    def add(self, part: Json) -> None:
        """Add a chunk, or a whole completion."""
        self.usage = part.get("usage") or self.usage
        for choice in part.get("choices") or ():
            said = choice.get("message") or choice.get("delta") or {}
            others = [value for name, value in said.items() if name not in ("role", "content")]
            self._is_plain &= choice.get("index") == 0 and not any(others) and not choice.get("logprobs")
            self._pieces.append(said.get("content") or "")
            self._is_finished |= choice.get("finish_reason") == "stop"

    @property
    def content(self) -> str | None:
        """The text, None if it was cut or broke off, or if there is more than text."""
        text = "".join(self._pieces)
        return text if text and self._is_finished and self._is_plain else None


def completion_of(content: str, usage: Json | None, model: str) -> Json:
    """Return the text as a chat completion (CreateChatCompletionResponse in OpenAI's description)."""
    message = {"role": "assistant", "content": content, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {**completion_head(model, "chat.completion", CHAT_ID), "choices": [choice], "usage": usage}


def chunks_of(content: str, usage: Json | None, model: str) -> Iterator[Json]:
    """Yield the text as the chunks of a chat completion, the last with the usage, unless that is None."""
    head = {**completion_head(model, "chat.completion.chunk", CHAT_ID), **({} if usage is None else {"usage": None})}
    pieces = [content[start : start + PIECE_CHARACTERS] for start in range(0, len(content), PIECE_CHARACTERS)]
    deltas: list[Json] = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in pieces)]
    for delta in deltas:
        yield {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]}
    yield {**head, "choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]}
    if usage is not None:
        yield {**head, "choices": [], "usage": usage}
