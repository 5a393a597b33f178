"""Responses that are made in the background: queued, worked on whoever listens, cancelled, and told again."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from copy import copy

import structlog

from rag_server.api.answers import note_answer
from rag_server.api.errors import error_object
from rag_server.api.responses.answering import Answering, Asked
from rag_server.errors import InvalidRequestError, OverloadedError, StoreError
from rag_server.protocols import Json
from rag_server.services import Services
from rag_server.store.responses import Responses
from rag_server.task_end import end_tasks
from rag_server.types import Access

log = structlog.get_logger()

# Nobody waits for them, so they leave the engine to those who do.
MAX_RUNNING = 32
MAX_QUEUED = 1000
# A process that has not said for so long that it works on a response has ended.
LEASE_S = 30.0
RENEWED_EVERY_S = 5.0
RETRY_AFTER_S = 30.0

CANCELLED = error_object("the response was cancelled", status=400, code="cancelled")["error"]
STOPPED = error_object("the server was stopped; send the request again", status=503, code="shutting_down")["error"]


class Run:
    """One response in the background, with the events that it has told so far, if somebody may ask for them."""

    def __init__(self, asked: Asked, services: Services) -> None:
        self.keeping = KeepingInBackground(asked, services, self._ending)
        self.answering = Answering(asked, services, self.keeping)
        self.is_streamed = asked.body.stream is True
        self.task: asyncio.Task[None] | None = None
        self.events: list[Json] = []
        # Told where the work is ended from outside.
        self.end_reason = CANCELLED
        self._has_ended = False
        self._news = asyncio.Event()

    def tell(self, event: Json) -> None:
        """Add an event, for all who follow."""
        if self.is_streamed:
            self.events.append(event)
            self._wake()

    def end(self) -> None:
        """No event follows."""
        self._has_ended = True
        self._wake()

    async def follow(self) -> AsyncGenerator[Json, None]:
        """Yield all events from the first on, as they come."""
        position = 0
        while position < len(self.events) or not self._has_ended:
            if position == len(self.events):
                await self._news.wait()
            else:
                yield self.events[position]
                position += 1

    def _ending(self) -> list[Json] | None:
        """Return the events with the last one, which is told once it is kept; None where nobody may ask for them."""
        if not self.is_streamed:
            return None
        # The number that the last event gets is not used up by looking at it.
        writer = copy(self.answering.writer)
        return [*self.events, writer.state(writer.response["status"])]

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class KeepingInBackground:
    """Writes down the state of a response that was kept when it was queued.

    Work on one that is not wanted any more is cancelled: it was cancelled, deleted or given up, maybe by another process.
    """

    def __init__(self, asked: Asked, services: Services, ending: Callable[[], list[Json] | None]) -> None:
        self._asked = asked
        self._responses = services.store.responses
        self._ending = ending
        # From then on the store decides how it ended; work that was cancelled here would not know.
        self.is_ending = False
        # Its events are kept to the last one.
        self.is_told = False

    async def begin(self) -> None:
        """Set it to in progress."""
        if not await asyncio.to_thread(self._responses.begin, self._asked.response["id"]):
            raise asyncio.CancelledError

    async def done(self, response: Json) -> None:
        """Write down its end, and put its items into their conversation."""
        self.is_ending = True
        conversation = self._asked.body.conversation
        is_wanted = await asyncio.to_thread(
            self._responses.finish,
            response,
            input_items=self._asked.dialogue.input_items,
            conversation_id=None if conversation is None else conversation.id,
            events=self._ending(),
        )
        if not is_wanted:
            raise asyncio.CancelledError
        self.is_told = True

    async def failed(self, response: Json) -> None:
        """Write down that it failed, if it is still wanted."""
        self.is_ending = True
        await asyncio.to_thread(self._responses.finish, response, events=self._ending())


class BackgroundRuns:
    """The responses that this process makes in the background."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._runs: dict[str, Run] = {}
        self._places = asyncio.Semaphore(MAX_RUNNING)

    @property
    def num_running(self) -> int:
        """How many responses wait or are worked on."""
        return len(self._runs)

    @property
    def _responses(self) -> Responses:
        return self._services.store.responses

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the leases alive; at the end, what still runs is stopped and kept as failed."""
        renewing = asyncio.ensure_future(self._renew())
        try:
            yield
        finally:
            await end_tasks(renewing)
            await asyncio.gather(*(self._stop(run) for run in list(self._runs.values())))

    async def start(self, asked: Asked, access: Access) -> Run:
        """Keep the response as a queued one and begin to work on it.

        Raises:
            OverloadedError: Too many wait already.
        """
        if len(self._runs) >= MAX_RUNNING + MAX_QUEUED:
            raise OverloadedError("too many responses wait in the background; try again", RETRY_AFTER_S)
        run = Run(asked, self._services)
        items, lease_until = asked.dialogue.input_items, time.time() + LEASE_S
        await asyncio.to_thread(self._responses.add, asked.response, items, access, lease_until=lease_until)
        self._runs[asked.response["id"]] = run
        run.task = asyncio.create_task(self._work(run))
        return run

    async def cancel(self, response_id: str, access: Access) -> Json:
        """Stop a response, wherever it is made; return it.

        Raises:
            NotFoundError: There is no response of that id, or it is another key's.
            InvalidRequestError: It is not made in the background.
        """
        response = await asyncio.to_thread(self._responses.cancel, response_id, access)
        await self._end_work(response_id)
        return response

    async def delete(self, response_id: str, access: Access) -> None:
        """Remove a response, and end the work on it.

        Raises:
            NotFoundError: There is no response of that id, or it is another key's.
        """
        await asyncio.to_thread(self._responses.delete, response_id, access)
        await self._end_work(response_id)

    async def events(self, response_id: str, access: Access, after: int) -> AsyncGenerator[Json, None]:
        """Return the events of a response from the first beyond the number `after` on: as they come, or as they were told.

        Raises:
            NotFoundError: There is no response of that id, or it is another key's.
            InvalidRequestError: It was not streamed, or not in the background, or another process makes it.
        """
        # In this order: the events of a run that has ended are kept before it is forgotten.
        run = self._runs.get(response_id)
        told = await asyncio.to_thread(self._responses.events, response_id, access)
        if run is not None and run.is_streamed:
            return _beyond(after, run.follow())
        if told is None:
            raise InvalidRequestError(
                "only a response that was made with `background: true` and `stream: true` can be streamed again: by the server "
                "that makes it and, once it has ended, by any; read it without `stream`",
                "stream",
            )
        return _beyond(after, _replayed(told))

    async def _work(self, run: Run) -> None:
        response = run.answering.writer.response
        try:
            async with aclosing(run.answering.stream(hold=False)) as events:
                # It is created and queued before its turn comes.
                for _ in range(2):
                    run.tell(await anext(events))
                async with self._places:
                    async for event in events:
                        run.tell(event)
        except asyncio.CancelledError:
            run.keeping.is_ending = True
            run.tell(run.answering.writer.error(run.end_reason))
        finally:
            note_answer(response)
            if run.is_streamed and not run.keeping.is_told:
                await self._save_events(response["id"], run.events)
            self._forget(run)

    async def _save_events(self, response_id: str, events: Sequence[Json]) -> None:
        try:
            await asyncio.to_thread(self._responses.save_events, response_id, events)
        except StoreError as error:
            log.error("the events of a response cannot be kept", response=response_id, reason=str(error))

    async def _end_work(self, response_id: str) -> None:
        """End the work on a response, if it is made here."""
        run = self._runs.get(response_id)
        if run is not None and run.task is not None:
            if not run.keeping.is_ending:
                run.task.cancel()
            await asyncio.wait([run.task])
            # Of a task that was cancelled before its first step nothing was run.
            self._forget(run)

    def _forget(self, run: Run) -> None:
        self._runs.pop(run.answering.writer.response["id"], None)
        run.end()

    async def _stop(self, run: Run) -> None:
        run.end_reason = STOPPED
        writer = run.answering.writer
        await self._end_work(writer.response["id"])
        writer.fail({"code": "server_error", "message": STOPPED["message"]})
        with contextlib.suppress(StoreError):
            await asyncio.to_thread(self._responses.finish, writer.response)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEWED_EVERY_S)
            known = list(self._runs)
            if not known:
                continue
            try:
                wanted = await asyncio.to_thread(self._responses.renew, known, time.time() + LEASE_S)
                for response_id in set(known) - wanted:
                    await self._end_work(response_id)
            except Exception as error:  # noqa: BLE001 - it is to go on after whatever failed once
                reason = f"{type(error).__name__}: {error}"
                log.error("the leases of responses cannot be renewed; it is tried again", reason=reason)


async def _replayed(events: Sequence[Json]) -> AsyncGenerator[Json, None]:
    for event in events:
        yield event


async def _beyond(number: int, events: AsyncGenerator[Json, None]) -> AsyncGenerator[Json, None]:
    async with aclosing(events):
        async for event in events:
            if event["sequence_number"] > number:
                yield event
