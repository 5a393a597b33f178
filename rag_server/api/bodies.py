"""Bodies of requests: how large they may be, and that JSON ones are harmless before anything parses them."""

import asyncio
import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag_server.api.errors import error_response
from rag_server.api.json_bodies import check_json
from rag_server.errors import PayloadTooLargeError, RagServerError, RequestTimeoutError, UnsupportedEncodingError
from rag_server.services import Services

MIB = 1024**2
# OpenAI's limits for a file and for a part of one, and what a form puts around it.
FORM_BYTES = MIB
UPLOADS = (
    (re.compile(r"/v1/files/?"), 512 * MIB + FORM_BYTES),
    (re.compile(r"/v1/uploads/[^/]+/parts/?"), 64 * MIB + FORM_BYTES),
)
# A body is waited for while the request holds its place among the others: so long for all of it, or for the first of an upload.
BODY_TIMEOUT_S = 120.0
# What an upload sends in a second, on average, adds a second: a slow line takes its time for a large file.
MIN_UPLOAD_BYTES_PER_S = 32 * 1024
# An upload of which nothing comes for so long does not go on.
STALLED_S = 30.0
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
    upload_limit = _upload_limit(scope)
    limit = max_body_bytes if upload_limit is None else upload_limit
    if announced.isdecimal() and (len(announced) > len(str(limit)) or int(announced) > limit):
        raise _too_large(limit)


class Bodies:
    """The innermost layer: counts uploads while they stream, and reads all other bodies; JSON is checked."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application on a body within the limits.

        Raises:
            PayloadTooLargeError: It is too large.
            RequestTimeoutError: It does not come.
            InvalidRequestError: It is JSON that is not handed on.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        upload_limit = _upload_limit(scope)
        if upload_limit is not None:
            await self._count(upload_limit, scope, receive, send)
            return
        body = await _read(receive, self._services.settings.limits.max_body_bytes)
        # None: the client is gone.
        if body is not None:
            if "json" in Headers(scope=scope).get("content-type", "").lower():
                await _check(body)
            await self._app(scope, _replayed(body, receive), send)

    async def _count(self, limit: int, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application; one that reads too much or waits too long is stopped, and that is answered in its place."""
        upload = _Upload(receive, limit)
        refused: RagServerError | None = None
        started = False

        async def counted() -> Message:
            nonlocal refused
            try:
                return await (receive() if started else upload.receive())
            except (PayloadTooLargeError, RequestTimeoutError) as error:
                refused = error
                raise

        async def watch(message: Message) -> None:
            nonlocal started
            # Whoever parses the body may take the error for one of its own.
            if refused is None:
                started = True
                await send(message)

        try:
            await self._app(scope, counted, watch)
        except (PayloadTooLargeError, RequestTimeoutError) as error:
            if error is not refused:
                raise
        if refused is not None:
            await error_response(refused)(scope, receive, send)


class _Upload:
    """A body that streams: not larger than its limit, and at no slower pace than some line has."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._num_bytes = 0
        # The time that the application takes for what has come is not the client's.
        self._waited_s = 0.0
        self._is_complete = False

    async def receive(self) -> Message:
        """Return the next part.

        Raises:
            PayloadTooLargeError: It goes beyond the limit.
            RequestTimeoutError: It does not come.
        """
        # What follows the body is that the client goes away, whenever it does.
        message = await (self._receive() if self._is_complete else self._next_part())
        self._num_bytes += len(message.get("body", b""))
        self._is_complete = not message.get("more_body", False)
        if self._num_bytes > self._limit:
            raise _too_large(self._limit)
        return message

    async def _next_part(self) -> Message:
        clock = asyncio.get_running_loop().time
        began_s = clock()
        left_s = BODY_TIMEOUT_S + self._num_bytes / MIN_UPLOAD_BYTES_PER_S - self._waited_s
        try:
            async with asyncio.timeout(min(STALLED_S, left_s)):
                return await self._receive()
        except TimeoutError:
            message = (
                f"the upload stopped for {STALLED_S:.0f} seconds, or is slower than {MIN_UPLOAD_BYTES_PER_S:,} bytes a second"
            )
            raise RequestTimeoutError(f"{message}; send it in parts (/v1/uploads), or over a faster line") from None
        finally:
            self._waited_s += clock() - began_s


async def _read(receive: Receive, limit: int) -> bytes | None:
    parts: list[bytes] = []
    num_bytes = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while (message := await receive())["type"] == "http.request":
                parts.append(message.get("body", b""))
                num_bytes += len(parts[-1])
                if num_bytes > limit:
                    raise _too_large(limit)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise RequestTimeoutError(f"the body did not arrive within {BODY_TIMEOUT_S:.0f} seconds") from None
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


def _upload_limit(scope: Scope) -> int | None:
    uploads = UPLOADS if scope["method"] == "POST" else ()
    return next((limit for pattern, limit in uploads if pattern.fullmatch(scope["path"])), None)


def _too_large(limit: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(f"the body is larger than {limit:,} bytes; send less at a time")
