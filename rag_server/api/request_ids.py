"""Gives every request an id, for its answer and for every line that it leaves in the log."""

import random
import re

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "x-request-id"
# A client's own id goes into the log as it is.
CLIENT_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class RequestIds:
    """The outermost layer: it answers `x-request-id`, also with errors; the client's own where that is a short token."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope).get(HEADER))

        async def with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), (HEADER.encode(), request_id.encode())]}
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._app(scope, receive, with_id)


def _request_id(given: str | None) -> str:
    # A name and no secret: the system's own randomness costs more than all the rest here.
    return given if given is not None and CLIENT_ID.fullmatch(given) else f"req_{random.getrandbits(128):032x}"
