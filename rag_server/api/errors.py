"""Turns every error into OpenAI's error object with the right status; nothing internal leaks."""

import json
import math
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag_server import errors
from rag_server.batch_types import BatchEndedError
from rag_server.protocols import Json

log = structlog.get_logger()

# The first that an error is an instance of.
_STATUSES: tuple[tuple[type[errors.RagServerError], int], ...] = (
    (errors.InvalidRequestError, 400),
    (errors.NotFoundError, 404),
    (errors.UnauthorizedError, 401),
    (errors.ForbiddenError, 403),
    (errors.RequestTimeoutError, 408),
    (errors.PayloadTooLargeError, 413),
    (errors.UnsupportedEncodingError, 415),
    (errors.EmbeddingMismatchError, 409),
    (BatchEndedError, 409),
    (errors.RateLimitedError, 429),
    (errors.OverloadedError, 503),
    (errors.DeadlineExceededError, 504),
    (errors.EngineUnavailableError, 503),
    (errors.IndexUnavailableError, 503),
    (errors.EngineProtocolError, 502),
    (errors.StoreError, 503),
    (errors.MissingExtraError, 501),
)
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
# OpenAI's clients try 408, 409, 429 and all from 500 again, unless `x-should-retry` says that it helps or not.
_PASSING = (errors.RateLimitedError, errors.OverloadedError, errors.EngineUnavailableError, errors.IndexUnavailableError)
_LASTING = (
    errors.EmbeddingMismatchError,
    BatchEndedError,
    errors.DeadlineExceededError,
    errors.StoreDamagedError,
    errors.MissingExtraError,
    errors.ConfigError,
)
# Instead of messages that name folders, addresses or what the database said; those are in the log.
_PUBLIC: tuple[tuple[type[errors.RagServerError], str], ...] = (
    (errors.StoreDamagedError, "the store is damaged; the server's log says where, and what to do"),
    (errors.StoreError, "the store cannot be read or written now; the server's log says why"),
    (errors.IndexUnavailableError, "the vector index cannot be used now; the server's log says why"),
    (errors.ConfigError, "this server's settings do not allow it; the server's log says which"),
    (
        errors.EmbeddingModelGoneError,
        "the embedding model of this vector store is gone; put it back, or run `rag-server index --change-model`",
    ),
)
# What a request says is quoted in messages, and may be megabytes.
MAX_MESSAGE_CHARACTERS = 1000


class ErrorResponse(JSONResponse):
    """An error object in ASCII: what it quotes may be no text that UTF-8 can say."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return json.dumps(content).encode()


def error_object(message: str, *, status: int, code: str | None = None, param: str | None = None) -> Json:
    """Return OpenAI's error object."""
    error_type = _TYPES.get(status, "invalid_request_error" if 400 <= status < 500 else "server_error")
    if len(message) > MAX_MESSAGE_CHARACTERS:
        message = f"{message[:MAX_MESSAGE_CHARACTERS]}..."
    return {"error": {"message": message, "type": error_type, "param": param, "code": code}}


def public_message(error: errors.RagServerError) -> str:
    """Return the error's message without what is nobody's business outside: folders, addresses, the database's own words."""
    return next((message for kind, message in _PUBLIC if isinstance(error, kind)), str(error))


def describe(error: errors.RagServerError) -> tuple[int, Json]:
    """Return the status and body for an error; the engine's own refusals are handed on as they are."""
    if isinstance(error, errors.EngineRequestError):
        body = error.body
        is_openai_shape = isinstance(body, dict) and isinstance(body.get("error"), dict)
        return error.status, body if is_openai_shape else error_object(str(error), status=error.status, code=error.code)
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
    param = error.param if isinstance(error, errors.InvalidRequestError) else None
    return status, error_object(public_message(error), status=status, code=error.code, param=param)


def error_headers(error: errors.RagServerError) -> dict[str, str]:
    """Return the headers that say what a client can do about an error."""
    headers: dict[str, str] = {}
    if isinstance(error, _PASSING):
        # A quota comes back with the day; nobody should hang on for that.
        helps = "false" if error.code == "insufficient_quota" else "true"
        headers |= {"retry-after": str(max(1, math.ceil(error.retry_after_s))), "x-should-retry": helps}
    elif isinstance(error, errors.EngineRequestError) and error.retry_after_s is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after_s))
    elif isinstance(error, _LASTING) or describe(error)[0] == 500:
        headers["x-should-retry"] = "false"
    if isinstance(error, errors.UnauthorizedError):
        headers["www-authenticate"] = 'Bearer realm="rag-server"'
    if isinstance(error, errors.PayloadTooLargeError | errors.RequestTimeoutError | errors.ShuttingDownError):
        # What is left of the body is not waited for.
        headers["connection"] = "close"
    return headers


def error_response(error: errors.RagServerError) -> ErrorResponse:
    """Return the response for an error; what is this server's own fault is logged with its full message."""
    status, body = describe(error)
    # Refusals are counted; a line for each would be what an overloaded server needs least.
    if (status >= 500 and not isinstance(error, errors.OverloadedError)) or public_message(error) != str(error):
        log.error("request failed", code=error.code, reason=str(error))
    return ErrorResponse(body, status_code=status, headers=error_headers(error))


def install_error_handlers(app: FastAPI) -> None:
    """Make the application answer every error in OpenAI's shape."""

    @app.exception_handler(errors.RagServerError)
    async def on_named_error(_: Request, error: errors.RagServerError) -> ErrorResponse:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def on_invalid_request(_: Request, error: RequestValidationError) -> ErrorResponse:
        fault = error.errors()[0]
        if fault["type"] == "json_invalid":
            reason = fault.get("ctx", {}).get("error", fault["msg"])
            body = error_object(f"the body is not valid JSON: {reason}", status=400, code="invalid_json")
            return ErrorResponse(body, status_code=400)
        param = ".".join(str(part) for part in fault["loc"][1:]) or None
        message = f"{param or 'body'}: {fault['msg']}"
        return ErrorResponse(error_object(message, status=400, code="invalid_request", param=param), status_code=400)

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> ErrorResponse:
        status = error.status_code
        message, code = str(error.detail), "invalid_request" if status == 400 else None
        if status == 404:
            message, code = f"there is no {request.method} {request.url.path}", "unknown_url"
        elif status == 405:
            message, code = f"{request.url.path} does not take {request.method}", "method_not_allowed"
        return ErrorResponse(error_object(message, status=status, code=code), status_code=status, headers=error.headers)


class ErrorResponses:
    """Answers the errors that middleware raises; logs what nobody foresaw and answers 500 without a word about it.

    Once an answer has begun there is no other one: the error goes on to the server, which ends the connection.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except errors.RagServerError as error:
            if started:
                raise
            await error_response(error)(scope, receive, send)
        except Exception:
            log.exception("unexpected error", method=scope["method"], path=scope["path"])
            if started:
                raise
            body = error_object("something went wrong here; the server's log says what", status=500, code="internal_error")
            headers = {"x-should-retry": "false"}
            await ErrorResponse(body, status_code=500, headers=headers)(scope, receive, send)
