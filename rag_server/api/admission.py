"""Lets requests in as far as this server can carry them, and ends those whose client is gone or whose time is over."""

import asyncio
import json
import math
from collections.abc import Callable, Mapping

import structlog
from prometheus_client import Counter
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag_server.api.disconnect import Presence
from rag_server.api.errors import describe
from rag_server.api.guard import is_public
from rag_server.api.queues import WorkQueue
from rag_server.api.work import Work, work_of
from rag_server.errors import DeadlineExceededError, RagServerError, ShuttingDownError
from rag_server.services import Services

log = structlog.get_logger()

DISCONNECTS = Counter("rag_client_disconnects_total", "Clients that went away before their answer was complete.", ["queue"])
DEADLINES = Counter("rag_deadlines_exceeded_total", "Requests whose time was over before they were answered.", ["queue"])

# What a client has to wait at least before another server, or the next one here, may be up.
RESTART_S = 5.0
# OpenAI's clients say how long they wait for the first byte, in Python and in JavaScript; no standard has a word for it.
CLIENT_TIMEOUTS = ("x-stainless-read-timeout", "x-stainless-timeout")

# What ends with its client: nothing is lost but the answer.
_ANSWERING: tuple[Work | None, ...] = ("generate", "search")


class Gate:
    """Stands before the guard: whoever cannot be served is told in a moment, whatever it would cost to know who it is."""

    def __init__(self, app: ASGIApp, services: Services, queues: Mapping[Work, WorkQueue]) -> None:
        self._app = app
        self._services = services
        self._queues = queues

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, unless there is no room or the server is about to end.

        Raises:
            OverloadedError: That is so.
        """
        if scope["type"] == "http" and not is_public(scope["path"]):
            if self._services.shutting_down:
                raise _shutting_down()
            work = work_of(scope["method"], scope["path"])
            if work is not None:
                self._queues[work].check_room()
        await self._app(scope, receive, send)


class Admission:
    """Stands after the guard and before whatever reads the body. A place is held until the answer has ended."""

    def __init__(self, app: ASGIApp, services: Services, queues: Mapping[Work, WorkQueue]) -> None:
        self._app = app
        self._services = services
        self._queues = queues

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application in a place of its kind of work.

        Raises:
            OverloadedError: There is none.
            DeadlineExceededError: The time was over before the answer began.
        """
        if scope["type"] != "http" or is_public(scope["path"]):
            await self._app(scope, receive, send)
            return
        work = work_of(scope["method"], scope["path"])
        if work in _ANSWERING or scope["method"] == "GET":
            await self._watched(work, scope, receive, send)
        else:
            # What changes something is done to its end, whoever waits for it.
            try:
                await self._placed(work, scope, receive, send)
            except ClientDisconnect:
                # Before all of the body was there.
                DISCONNECTS.labels(work or "other").inc()

    async def _placed(self, work: Work | None, scope: Scope, receive: Receive, send: Send) -> None:
        if work is None:
            await self._app(scope, receive, send)
            return
        async with self._queues[work].place():
            await self._app(scope, receive, send)

    async def _watched(self, work: Work | None, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application until it has answered, the client is gone, or the time is over."""
        if work in _ANSWERING:
            with self._services.live_traffic.turn() as turn:
                await self._until_answered(work, scope, receive, _Answer(send, begun=turn.over))
        else:
            await self._until_answered(work, scope, receive, _Answer(send))

    async def _until_answered(self, work: Work | None, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        presence = Presence(receive)
        inside = asyncio.ensure_future(self._placed(work, scope, presence.receive, answer.send))
        gone = asyncio.ensure_future(presence.until_gone())
        try:
            await self._until_over(work, Headers(scope=scope), {inside, gone}, answer)
            # After the last byte the server reports every client as gone.
            if inside.done() or answer.complete:
                await inside
            elif gone.done():
                DISCONNECTS.labels(work or "other").inc()
            else:
                DEADLINES.labels(work or "other").inc()
                await _end(inside)
                await answer.break_off(DeadlineExceededError("the time that this request may take is over"))
        except asyncio.CancelledError:
            if not self._services.shutting_down:
                raise
            await _end(inside)
            await answer.break_off(_shutting_down())
        finally:
            await _end(inside)
            await _end(gone)

    async def _until_over(
        self, work: Work | None, headers: Headers, tasks: set["asyncio.Future[None]"], answer: "_Answer"
    ) -> None:
        """Wait until one of the tasks is done or the time is over: the server's, and the client's for the first byte."""
        clock = asyncio.get_running_loop().time
        deadline_s = self._services.settings.limits.deadline_s if work in _ANSWERING else None
        over = math.inf if deadline_s is None else clock() + deadline_s
        first_byte = clock() + client_timeout_s(headers)
        for moment in (min(first_byte, over), over):
            timeout_s = None if math.isinf(moment) else max(0.0, moment - clock())
            done, _ = await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if done or not answer.started:
                return


class _Answer:
    """What was sent so far."""

    def __init__(self, send: Send, begun: Callable[[], None] | None = None) -> None:
        self._send = send
        self._begun = begun
        self.started = self.complete = self._is_event_stream = False
        self._last = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            if self._begun is not None:
                self._begun()
            self._is_event_stream = Headers(raw=message["headers"]).get("content-type", "").startswith("text/event-stream")
        elif not message.get("more_body", False):
            self.complete = True
        self._last = message.get("body") or self._last
        await self._send(message)

    async def break_off(self, error: RagServerError) -> None:
        """End the answer with an error: as the answer itself, or as the last event of a stream.

        Raises:
            RagServerError: It has not begun, or it is no stream and cannot say it any more.
        """
        if not self._is_event_stream:
            raise error
        log.error("the answer broke off", code=error.code, reason=str(error))
        await self._send({"type": "http.response.body", "body": self._last_event(error).encode(), "more_body": False})

    def _last_event(self, error: RagServerError) -> str:
        """Return the error as an event of this stream, whose form is that of the event before."""
        body = describe(error)[1]
        if not self._last.startswith(b"event: "):
            return f"data: {json.dumps(body)}\n\n"
        number = json.loads(self._last.partition(b"data: ")[2])["sequence_number"] + 1
        told = {name: body["error"][name] for name in ("code", "message", "param")}
        return f"event: error\ndata: {json.dumps({'type': 'error', **told, 'sequence_number': number})}\n\n"


def client_timeout_s(headers: Headers) -> float:
    """Return how long the client waits for the first byte, as far as it says so."""
    for name in CLIENT_TIMEOUTS:
        try:
            seconds = float(headers.get(name, ""))
        except ValueError:
            continue
        if seconds > 0:
            return seconds
    return math.inf


def _shutting_down() -> ShuttingDownError:
    return ShuttingDownError("this server is shutting down; try again", RESTART_S)


async def _end(task: "asyncio.Future[None]") -> None:
    """Cancel a task and wait for its end."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, RagServerError):
        log.warning("the end of a request failed", reason=f"{type(error).__name__}: {error}")
