"""Reads server-sent events (WHATWG HTML, "Parsing an event stream"), as far as OpenAI-compatible servers use them."""

from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing


async def event_data(parts: AsyncIterable[bytes]) -> AsyncGenerator[str, None]:
    """Yield what each `data:` line of a body holds, which comes in parts.

    Lines end at LF or CRLF only; httpx ends them also at U+2028 and others, which JSON may hold as they are.
    """
    async with aclosing(_lines(parts)) as lines:
        async for line in lines:
            if line.startswith(b"data:"):
                yield line.removeprefix(b"data:").decode(errors="replace").strip()


async def _lines(parts: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    line: list[bytes] = []
    async for part in parts:
        first, *others = part.split(b"\n")
        line.append(first)
        for other in others:
            yield b"".join(line)
            line = [other]
    yield b"".join(line)
