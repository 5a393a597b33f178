"""Server-sent events: an iterator of JSON objects as an event stream that ends with [DONE], or with an error object."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import structlog
from fastapi.responses import StreamingResponse

from rag_server.api.errors import describe
from rag_server.errors import RagServerError
from rag_server.protocols import Json

log = structlog.get_logger()


async def event_stream(chunks: AsyncGenerator[Json, None]) -> StreamingResponse:
    """Return the streamed response once the first chunk is there, so that an error before it keeps its own status."""
    first = await anext(chunks, None)
    headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    return StreamingResponse(_lines(first, chunks), media_type="text/event-stream", headers=headers)


async def _lines(first: Json | None, chunks: AsyncGenerator[Json, None]) -> AsyncIterator[str]:
    # Closed explicitly: when the client goes away this generator is cancelled, and the engine's work must end with it.
    async with aclosing(chunks):
        try:
            if first is not None:
                yield _event(first)
            async for chunk in chunks:
                yield _event(chunk)
        except RagServerError as error:
            log.error("the answer broke off", code=error.code, reason=str(error))
            yield _event(describe(error)[1])
        else:
            yield "data: [DONE]\n\n"


def _event(value: Json) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}\n\n"
