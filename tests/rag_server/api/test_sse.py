"""Event streams: their forms, their ends, and errors in their middle."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from rag_server.api.sse import event_stream
from rag_server.errors import EngineProtocolError

CHUNK = {"choices": [{"index": 0, "delta": {"content": "a\nü"}}]}


async def text_of(chunks: AsyncGenerator[dict[str, Any], None], *, named: bool = False) -> str:
    response = await event_stream(chunks, named=named)
    return "".join([part async for part in response.body_iterator])


async def ending_with(error: Exception | None) -> AsyncGenerator[dict[str, Any], None]:
    yield CHUNK
    if error is not None:
        raise error


async def test_stream_ends_with_done() -> None:
    """One event per chunk, on one line each."""
    chunk = json.dumps(CHUNK, ensure_ascii=False, separators=(",", ":"))

    assert await text_of(ending_with(None)) == f"data: {chunk}\n\ndata: [DONE]\n\n"


async def test_no_character_of_a_text_ends_a_line() -> None:
    """Clients that end lines as Python does still read one line per event, with the same text."""
    content = "a\x85b\u2028c\u2029d\r\ne\x0bf"

    async def said() -> AsyncGenerator[dict[str, Any], None]:
        yield {"text": content}

    line, _, rest = (await text_of(said())).partition("\n")
    assert line.splitlines() == [line]
    assert json.loads(line.removeprefix("data: ")) == {"text": content}
    assert rest == "\ndata: [DONE]\n\n"


async def test_named_events_bear_their_types() -> None:
    """As in the Responses API, where no [DONE] follows."""

    async def events() -> AsyncGenerator[dict[str, Any], None]:
        yield {"type": "response.created"}
        yield {"type": "response.completed"}

    assert await text_of(events(), named=True) == (
        'event: response.created\ndata: {"type":"response.created"}\n\n'
        'event: response.completed\ndata: {"type":"response.completed"}\n\n'
    )


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (EngineProtocolError("it broke"), "engine_protocol_error", "it broke"),
        (ZeroDivisionError("a secret"), "internal_error", "something went wrong here; the server's log says what"),
    ],
)
async def test_error_in_mid_stream_is_its_last_event(error: Exception, code: str, message: str) -> None:
    """Errors that nobody foresaw too, without a word about them; no [DONE] follows, since it is not done."""
    *_, last, rest = (await text_of(ending_with(error))).split("\n\n")

    assert rest == ""
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == code
    assert json.loads(last.removeprefix("data: "))["error"]["message"] == message


async def test_error_before_the_first_chunk_is_raised() -> None:
    """It gets a status of its own."""

    async def failing() -> AsyncGenerator[dict[str, Any], None]:
        raise EngineProtocolError("it broke")
        yield {}

    with pytest.raises(EngineProtocolError):
        await event_stream(failing())
