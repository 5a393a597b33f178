"""Asks this application from inside its process, as a caller that is known: without HTTP, queues and rate limits."""

import json
import random
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope

from rag_server.api.errors import describe, error_object
from rag_server.api.guard import check_scope
from rag_server.api.json_bodies import check_json
from rag_server.api.rate_limits import charge_batched_tokens
from rag_server.errors import PayloadTooLargeError, RagServerError
from rag_server.protocols import Json
from rag_server.services import Services
from rag_server.types import Caller
from rag_server.usage import begin_record

log = structlog.get_logger()

# The engine's word for requests that wait for all others.
PRIORITY = 1
# Of a server that listens everywhere, the address of its machine in links.
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


class Inside:
    """Sends requests to the routes. What an answer is and what an error is, is the same as over HTTP."""

    def __init__(self, app: FastAPI, services: Services) -> None:
        handlers: Mapping[Any, Callable[..., Any]] = app.exception_handlers
        self._routes: ASGIApp = ExceptionMiddleware(AsyncExitStackMiddleware(app.router), handlers=handlers)
        self._app = app
        settings = services.settings
        self._limits = settings.limits
        self._limiter = services.rate_limiter
        host = ANYWHERE.get(settings.host, settings.host)
        self._host = f"[{host}]:{settings.port}" if ":" in host else f"{host}:{settings.port}"

    @staticmethod
    def check(body: bytes) -> None:
        """Raise InvalidJsonError for JSON that no route would take."""
        check_json(body)

    async def send(self, url: str, body: Json, caller: Caller) -> tuple[int, Json, str]:
        """POST a body to a path; return status, the JSON object of the answer, and the id of the request."""
        record = begin_record()
        record.priority = PRIORITY
        charge_batched_tokens(self._limiter, caller, self._limits)
        request_id = f"req_{random.getrandbits(128):032x}"
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                content = json.dumps(body).encode()
                check_scope(caller, "POST", url)
                check_json(content)
                if len(content) > self._limits.max_body_bytes:
                    raise PayloadTooLargeError(
                        f"the body is larger than {self._limits.max_body_bytes:,} bytes; send less at a time"
                    )
                record.body_bytes = len(content)
                status, answer = await self._answer(self._scope(url, content, caller), content)
            except RagServerError as error:
                status, answer = describe(error)
            except Exception:
                log.exception("unexpected error", method="POST", path=url)
                message = "something went wrong here; the server's log says what"
                status, answer = 500, error_object(message, status=500, code="internal_error")
        return status, answer, request_id

    async def _answer(self, scope: Scope, content: bytes) -> tuple[int, Json]:
        status, parts = 500, bytearray()

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            parts.extend(message.get("body", b""))

        await self._routes(scope, _receiving(content), send)
        answer = json.loads(bytes(parts))
        if not isinstance(answer, dict):
            raise TypeError("an answer of a route is no JSON object")
        return status, answer

    def _scope(self, url: str, content: bytes, caller: Caller) -> Scope:
        headers = {"host": self._host, "content-type": "application/json", "content-length": str(len(content))}
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": url,
            "raw_path": url.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": None,
            "server": None,
            "state": {"caller": caller},
            "app": self._app,
        }


def _receiving(content: bytes) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def receive() -> Message:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    return receive
