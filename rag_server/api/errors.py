"""Turns every error into OpenAI's error object with the right status; nothing internal leaks."""

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag_server import errors
from rag_server.protocols import Json

log = structlog.get_logger()

_STATUSES: tuple[tuple[type[errors.RagServerError], int], ...] = (
    (errors.InvalidRequestError, 400),
    (errors.NotFoundError, 404),
    (errors.UnauthorizedError, 401),
    (errors.ForbiddenError, 403),
    (errors.PayloadTooLargeError, 413),
    (errors.EmbeddingMismatchError, 409),
    (errors.EngineUnavailableError, 503),
    (errors.EngineProtocolError, 502),
    (errors.StoreError, 503),
    (errors.MissingExtraError, 501),
)


def error_object(message: str, *, status: int, code: str | None = None, param: str | None = None) -> Json:
    """Return OpenAI's error object."""
    error_type = "invalid_request_error" if 400 <= status < 500 else "server_error"
    return {"error": {"message": message, "type": error_type, "param": param, "code": code}}


def describe(error: errors.RagServerError) -> tuple[int, Json]:
    """Return the status and body for an error; the engine's own refusals are handed on as they are."""
    if isinstance(error, errors.EngineRequestError):
        body = error.body
        is_openai_shape = isinstance(body, dict) and isinstance(body.get("error"), dict)
        return error.status, body if is_openai_shape else error_object(str(error), status=error.status, code=error.code)
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
    param = error.param if isinstance(error, errors.InvalidRequestError) else None
    return status, error_object(str(error), status=status, code=error.code, param=param)


def install_error_handlers(app: FastAPI) -> None:
    """Make the application answer every error in OpenAI's shape."""

    @app.exception_handler(errors.RagServerError)
    async def on_named_error(_: Request, error: errors.RagServerError) -> JSONResponse:
        status, body = describe(error)
        if status >= 500:
            log.error("request failed", code=error.code, reason=str(error))
        headers = {"retry-after": str(error.retry_after_s)} if isinstance(error, errors.EngineUnavailableError) else None
        return JSONResponse(body, status_code=status, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def on_invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
        fault = error.errors()[0]
        if fault["type"] == "json_invalid":
            reason = fault.get("ctx", {}).get("error", fault["msg"])
            body = error_object(f"the body is not valid JSON: {reason}", status=400, code="invalid_json")
            return JSONResponse(body, status_code=400)
        param = ".".join(str(part) for part in fault["loc"][1:]) or None
        message = f"{param or 'body'}: {fault['msg']}"
        return JSONResponse(error_object(message, status=400, code="invalid_request", param=param), status_code=400)

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> JSONResponse:
        message = str(error.detail)
        if error.status_code == 404:
            message = f"there is no {request.method} {request.url.path}"
        body = error_object(message, status=error.status_code, code="not_found" if error.status_code == 404 else None)
        return JSONResponse(body, status_code=error.status_code, headers=error.headers)


class UnexpectedErrors:
    """Logs what nobody foresaw and answers 500 without a word about it, unless an answer has begun."""

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
        except Exception:
            log.exception("unexpected error", method=scope["method"], path=scope["path"])
            if started:
                raise
            body = error_object("something went wrong here; the server's log says what", status=500, code="internal_error")
            await JSONResponse(body, status_code=500)(scope, receive, send)
