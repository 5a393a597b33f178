"""Bodies of requests: how large they may be, and that JSON ones are harmless before anything parses them."""

import asyncio
import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag_server.api.errors import error_response
from rag_server.api.json_bodies import check_json
from rag_server.errors import PayloadTooLargeError, RequestTimeoutError, UnsupportedEncodingError
from rag_server.services import Services

MIB = 1024**2
# OpenAI's limits for a file and for a part of one, and what a form puts around it.
FORM_BYTES = MIB
UPLOADS = (
    (re.compile(r"/v1/files/?"), 512 * MIB + FORM_BYTES),
    (re.compile(r"/v1/uploads/[^/]+/parts/?"), 64 * MIB + FORM_BYTES),
)
# A body of JSON is read whole, while the request holds its place among the others.
JSON_TIMEOUT_S = 120.0
# From here on looking at it takes milliseconds, for which others would wait.
LARGE_JSON_BYTES = MIB


def check_announced(scope: Scope, headers: Headers, max_body_bytes: int) -> None:
    """Refuse a body by what its headers say, without reading any of it.

    Raises:
        PayloadTooLargeError: It is too large.
        UnsupportedEncodingError: It is compressed: what it grows to would be known only afterwards.
    """
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", ""):
        raise UnsupportedEncodingError("bodies are taken uncompressed only; send it without `Content-Encoding`")
    announced = headers.get("content-length", "")
    limit = _limit(scope, max_body_bytes)
    if announced.isdecimal() and (len(announced) > len(str(limit)) or int(announced) > limit):
        raise _too_large(limit)


class Bodies:
    """The innermost layer: reads and checks JSON bodies, and counts the others while they stream."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application on a body within the limits.

        Raises:
            PayloadTooLargeError: It is JSON and too large.
            RequestTimeoutError: It is JSON and does not come.
            InvalidRequestError: It is JSON that is not handed on.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = _limit(scope, self._services.settings.limits.max_body_bytes)
        if "json" not in Headers(scope=scope).get("content-type", "").lower():
            await self._count(limit, scope, receive, send)
            return
        body = await _read(receive, limit)
        # None: the client is gone.
        if body is not None:
            await _check(body)
            await self._app(scope, _replayed(body, receive), send)

    async def _count(self, limit: int, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application; one that reads too much is stopped, and 413 is answered in its place."""
        num_bytes = 0
        refused = started = False

        async def counted() -> Message:
            nonlocal num_bytes, refused
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > limit:
                refused = not started
                raise _too_large(limit)
            return message

        async def watch(message: Message) -> None:
            nonlocal started
            # Whoever parses the body may take the error for one of its own.
            if not refused:
                started = True
                await send(message)

        try:
            await self._app(scope, counted, watch)
        except PayloadTooLargeError:
            if not refused:
                raise
        if refused:
            await error_response(_too_large(limit))(scope, receive, send)


async def _read(receive: Receive, limit: int) -> bytes | None:
    parts: list[bytes] = []
    num_bytes = 0
    try:
        async with asyncio.timeout(JSON_TIMEOUT_S):
            while (message := await receive())["type"] == "http.request":
                parts.append(message.get("body", b""))
                num_bytes += len(parts[-1])
                if num_bytes > limit:
                    raise _too_large(limit)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise RequestTimeoutError(f"the body did not arrive within {JSON_TIMEOUT_S:.0f} seconds") from None
    return None


async def _check(body: bytes) -> None:
    if len(body) < LARGE_JSON_BYTES:
        check_json(body)
    else:
        await asyncio.to_thread(check_json, body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body first; what comes then, such as that the client goes away, is the server's."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed


def _limit(scope: Scope, max_body_bytes: int) -> int:
    uploads = UPLOADS if scope["method"] == "POST" else ()
    return next((limit for pattern, limit in uploads if pattern.fullmatch(scope["path"])), max_body_bytes)


def _too_large(limit: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(f"the body is larger than {limit:,} bytes; send less at a time")
