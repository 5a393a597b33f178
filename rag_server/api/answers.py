"""What an answer has used, as it says itself, or estimated where a stream does not say."""

from collections.abc import Awaitable

from fastapi.responses import JSONResponse

from rag_server.protocols import Json
from rag_server.usage import ESTIMATED_BYTES_PER_TOKEN, current_record, note_tokens, note_usage


async def json_answer(work: Awaitable[Json]) -> JSONResponse:
    """Return the result of `work` as the response, and count its tokens; the admission ends it with the client."""
    answer = await work
    note_answer(answer)
    return JSONResponse(answer)


def note_answer(answer: Json) -> None:
    """Count the tokens of a whole answer: of chat, completions, embeddings, responses, or a ranking in Cohere's shape."""
    usage = answer.get("usage") or (answer.get("meta") or {}).get("tokens")
    if isinstance(usage, dict):
        note_usage(usage)


class StreamUsage:
    """Follows the chunks of a stream; without any usage in them, the tokens are estimated from the texts' lengths."""

    def __init__(self) -> None:
        self._usage: Json | None = None
        self._num_bytes = 0

    def add(self, chunk: Json) -> None:
        """Take note of a chunk of a completion, or of an event of a response."""
        usage = chunk.get("usage") or (chunk.get("response") or {}).get("usage")
        if usage:
            self._usage = usage
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta")
            text = choice.get("text") if delta is None else delta.get("content")
            self._num_bytes += len(text or "")
        if isinstance(delta := chunk.get("delta"), str):
            self._num_bytes += len(delta)

    def note(self) -> None:
        """Count what was used, also of a stream that broke off."""
        if self._usage is not None:
            note_usage(self._usage)
            return
        # OpenAI's streams tell their usage only when asked (`stream_options`), and broken ones never do.
        record = current_record()
        prompt = 0 if record is None else record.body_bytes // ESTIMATED_BYTES_PER_TOKEN
        note_tokens(prompt, self._num_bytes // ESTIMATED_BYTES_PER_TOKEN)
