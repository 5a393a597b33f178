"""Server-sent events: an iterator of JSON objects as an event stream that ends with [DONE], or with an error object."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import structlog
from fastapi.responses import StreamingResponse
from prometheus_client import Gauge, Histogram
from starlette.types import Receive, Scope, Send

from rag_server.api.answers import StreamUsage
from rag_server.api.errors import describe, error_object
from rag_server.errors import RagServerError
from rag_server.observability import BUCKETS_S
from rag_server.protocols import Json
from rag_server.usage import current_record

log = structlog.get_logger()

STREAMS_OPEN = Gauge("rag_streams_open", "Event streams that are being sent.")
FIRST_TOKEN_SECONDS = Histogram(
    "rag_time_to_first_token_seconds", "Time from a request to the first event of its stream.", buckets=BUCKETS_S
)
# The standard ends no line there, but some clients do.
_LINE_ENDS = {"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}
HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
INTERNAL = error_object("something went wrong here; the server's log says what", status=500, code="internal_error")


async def event_stream(chunks: AsyncGenerator[Json, None], *, named: bool = False, counted: bool = True) -> StreamingResponse:
    """Return the streamed response once the first chunk is there, so that an error before it keeps its own status.

    With `named`, as the Responses API has it, each event bears its `type` as its name, and no [DONE] follows the last.
    Without `counted`, the tokens of the answer are not this request's, which only listens to it.
    """
    first = await anext(chunks, None)
    if (record := current_record()) is not None:
        FIRST_TOKEN_SECONDS.observe(record.elapsed_s())
    lines = _lines(first, chunks, named=named, usage=StreamUsage() if counted else None)
    return _EventStream(lines, media_type="text/event-stream", headers=HEADERS)


class _EventStream(StreamingResponse):
    """Is cancelled by the admission when the client goes away, which therefore needs no task of its own here."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with STREAMS_OPEN.track_inprogress():
            await self.stream_response(send)


async def _lines(
    first: Json | None, chunks: AsyncGenerator[Json, None], *, named: bool, usage: StreamUsage | None
) -> AsyncIterator[str]:
    # Closed explicitly: when the client goes away this generator is cancelled, and the engine's work must end with it.
    async with aclosing(chunks):
        try:
            if first is not None:
                _add(usage, first)
                yield _event(first, named=named)
            async for chunk in chunks:
                _add(usage, chunk)
                yield _event(chunk, named=named)
        except RagServerError as error:
            log.error("the answer broke off", code=error.code, reason=str(error))
            yield _event(describe(error)[1], named=False)
        except Exception:
            log.exception("the answer broke off")
            yield _event(INTERNAL, named=False)
        else:
            if not named:
                yield "data: [DONE]\n\n"
        finally:
            if usage is not None:
                usage.note()


def _add(usage: StreamUsage | None, chunk: Json) -> None:
    if usage is not None:
        usage.add(chunk)


def _event(value: Json, *, named: bool) -> str:
    name = f"event: {value['type']}\n" if named else ""
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character, escape in _LINE_ENDS.items():
        data = data.replace(character, escape)
    return f"{name}data: {data}\n\n"
