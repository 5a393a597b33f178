"""What is told about every request: a line in the log, metrics, and its span in the trace; never what it says."""

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag_server.api.guard import is_public
from rag_server.observability import REFUSALS, REQUEST_SECONDS, REQUESTS
from rag_server.services import Services
from rag_server.usage import RequestRecord, begin_record

log = structlog.get_logger()

REFUSING = {401, 403, 413, 429, 503}
CLIENT_CLOSED_REQUEST = 499
NO_ROOM = 503


class Observed:
    """Stands outside of all that refuses, so that refusals are seen too."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._tracer = services.tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = begin_record()
        if self._tracer is not None:
            record.tracer = self._tracer
            record.span = self._tracer.request(scope["method"], Headers(scope=scope))
        # Nothing is answered to a client that is gone.
        status = CLIENT_CLOSED_REQUEST

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except BaseException as error:
            record.span.fail(error)
            raise
        finally:
            _report(record, scope, status)


def _report(record: RequestRecord, scope: Scope, status: int) -> None:
    method, route = scope["method"], getattr(scope.get("route"), "path", "none")
    seconds = record.elapsed_s()
    REQUESTS.labels(method, route, str(status)).inc()
    REQUEST_SECONDS.labels(route).observe(seconds)
    if status in REFUSING:
        REFUSALS.labels(str(status)).inc()
    record.span.set(method=method, route=route, status=status)
    if record.prompt_tokens + record.output_tokens:
        record.span.set(prompt_tokens=record.prompt_tokens, output_tokens=record.output_tokens)
    record.span.end()
    # Those who look whether the server is well do so every few seconds; refusals for want of room are counted.
    if status != NO_ROOM and (status >= 400 or not is_public(scope["path"])):
        caller = scope.get("state", {}).get("caller")
        key_id = None if caller is None else caller.key_id
        log.info("request", method=method, route=route, status=status, ms=round(seconds * 1000, 1), key_id=key_id)
