"""Reads server-sent events (WHATWG HTML, "Parsing an event stream"), as far as OpenAI-compatible servers use them."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import httpx


async def event_data(response: httpx.Response) -> AsyncGenerator[str, None]:
    """Yield what each `data:` line of a streamed response holds.

    Lines end at LF or CRLF only; httpx ends them also at U+2028 and others, which JSON may hold as they are.
    """
    async with aclosing(_lines(response)) as lines:
        async for line in lines:
            if line.startswith(b"data:"):
                yield line.removeprefix(b"data:").decode(errors="replace").strip()


async def _lines(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    parts: list[bytes] = []
    async for received in response.aiter_bytes():
        first, *others = received.split(b"\n")
        parts.append(first)
        for other in others:
            yield b"".join(parts)
            parts = [other]
    yield b"".join(parts)
