"""One response on its way: the search, the engine's answer, and what is kept of it, as one stream of events."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from rag_server.answer import PassageUrl
from rag_server.api.asking import rag_request, vector_stores_of
from rag_server.api.errors import describe, error_object
from rag_server.api.responses.bodies import ResponseBody
from rag_server.api.responses.chat_request import chat_request, plan_tools, search_options
from rag_server.api.responses.dialogue import Dialogue, engine_model_of, latest_that_fit, read_dialogue
from rag_server.api.responses.results import ScoreThreshold, search_results
from rag_server.api.responses.shape import new_response, response_error, shown_response
from rag_server.api.responses.writer import ResponseWriter
from rag_server.errors import InvalidRequestError, RagServerError
from rag_server.pipeline import RagRequest
from rag_server.protocols import Json
from rag_server.services import Services
from rag_server.store.ids import new_id
from rag_server.types import Access

log = structlog.get_logger()

INTERNAL = error_object("something went wrong here; the server's log says what", status=500, code="internal_error")


class Keeping(Protocol):
    """What becomes of a response beside being sent."""

    async def begin(self) -> None:
        """Work on it begins."""

    async def done(self, response: Json) -> None:
        """It has its last state, and its ending is about to be told."""

    async def failed(self, response: Json) -> None:
        """It has failed, which is about to be told."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for a response whose parts were all found; with `search`, its passages are searched for first."""

    body: ResponseBody
    dialogue: Dialogue
    response: Json
    chat_body: Json
    search: RagRequest | None


async def understand(body: ResponseBody, services: Services, access: Access, passage_url: PassageUrl) -> Asked:
    """Return the request with all that it refers to.

    Raises:
        InvalidRequestError: Something in it is faulty, or does not fit together.
        NotFoundError: Something that it refers to is not there.
    """
    if body.background and not body.is_kept:
        raise InvalidRequestError("a response in the background is read later, so it needs `store`", "background")
    dialogue = await read_dialogue(body, services, access)
    model = body.model or await services.engine.default_model()
    plan = plan_tools(body)
    # A limit of no calls at all leaves no search.
    searched = None if body.max_tool_calls == 0 else plan.search
    rag = search_options(searched, body.rag)
    stores = await vector_stores_of(model, rag, services, access)
    chat_body = chat_request(body, plan, dialogue.messages, model=model)
    search = None
    if stores:
        search = rag_request(
            chat_body, model=model, rag=rag, stores=stores, services=services, access=access, passage_url=passage_url
        )
        if searched is not None and searched.ranking_options is not None:
            threshold = searched.ranking_options.score_threshold
            select = ScoreThreshold(threshold, search.options.retrieve, search.options.rerank)
            search = replace(search, options=replace(search.options, select=select))
    status = "queued" if body.background else "in_progress"
    response = new_response(body, response_id=new_id("resp_"), model=model, status=status)
    return Asked(body, dialogue, response, chat_body, search)


class Answering:
    """Makes one response."""

    def __init__(self, asked: Asked, services: Services, keeping: Keeping) -> None:
        self._asked = asked
        self._services = services
        self._keeping = keeping
        self._has_begun = False
        self.writer = ResponseWriter(asked.response, asked.body.include)

    def shown(self) -> Json:
        """Return the response as it is now, as the request wants it shown."""
        return shown_response(self.writer.response, self._asked.body.include)

    async def whole(self) -> Json:
        """Return the response once it has ended.

        Raises:
            RagServerError: It failed; nothing is kept.
        """
        async with aclosing(self._events()) as events:
            async for _ in events:
                continue
        return self.shown()

    async def stream(self, *, hold: bool) -> AsyncGenerator[Json, None]:
        """Yield the events; the last one tells how the response ended.

        With `hold`, nothing is yielded before the engine has begun to answer.

        Raises:
            RagServerError: It failed before, so that the failure can have a status of its own.
        """
        held: list[Json] | None = [] if hold else None
        async with aclosing(self._events()) as events:
            try:
                async for event in events:
                    if held is not None and not self._has_begun:
                        held.append(event)
                        continue
                    for earlier in held or ():
                        yield earlier
                    held = None
                    yield event
            except Exception as error:
                if held is not None:
                    raise
                for last in await self._failure(error):
                    yield last

    async def _events(self) -> AsyncGenerator[Json, None]:
        writer = self.writer
        yield writer.state("created")
        if writer.response["status"] == "queued":
            yield writer.state("queued")
            await self._keeping.begin()
            writer.response["status"] = "in_progress"
        yield writer.state("in_progress")
        async with aclosing(self._answer()) as events:
            async for event in events:
                yield event
        for event in writer.finish():
            yield event
        await self._keeping.done(writer.response)
        yield writer.state(writer.response["status"])

    async def _answer(self) -> AsyncGenerator[Json, None]:
        """Yield the events of the search and of the engine's answer."""
        writer, search = self.writer, self._asked.search
        chat_body = await self._fitting(self._asked.chat_body)
        if search is None:
            chunks = self._services.engine.stream_chat(chat_body)
        else:
            pipeline = await self._services.pipeline()
            for event in writer.begin_search():
                yield event
            prepared = await pipeline.prepare(replace(search, body=chat_body))
            results = search_results(prepared.ranking, search.options)
            for event in writer.end_search([prepared.query.searched], results):
                yield event
            chunks = pipeline.stream(prepared)
        async with aclosing(chunks):
            async for chunk in chunks:
                self._has_begun = True
                for event in writer.add(chunk):
                    yield event

    async def _fitting(self, chat_body: Json) -> Json:
        """Return the chat request with no more of the history than the engine has room for, where that is asked for."""
        if self._asked.body.truncation != "auto":
            return chat_body
        engine, model = self._services.engine, await engine_model_of(chat_body["model"], self._services)
        answer_tokens = chat_body.get("max_tokens") or self._services.settings.prompt.answer_tokens
        return {**chat_body, "messages": await latest_that_fit(chat_body["messages"], engine, model, answer_tokens)}

    async def _failure(self, error: Exception) -> list[Json]:
        """Return the events that tell the failure, once the response is kept as a failed one."""
        if isinstance(error, RagServerError):
            log.error("the response failed", response=self.writer.response["id"], code=error.code, reason=str(error))
            told, failed = describe(error)[1]["error"], response_error(error)
        else:
            log.exception("the response failed", response=self.writer.response["id"])
            told = INTERNAL["error"]
            failed = {"code": "server_error", "message": told["message"]}
        self.writer.fail(failed)
        try:
            await self._keeping.failed(self.writer.response)
        except RagServerError as unkept:
            log.error("a failed response cannot be kept", response=self.writer.response["id"], reason=str(unkept))
        return [self.writer.error(told), self.writer.state("failed")]


class KeepingAtTheEnd:
    """Keeps a response whose client waits for it, with its items in their conversation, before the client is told the end."""

    def __init__(self, asked: Asked, services: Services, access: Access) -> None:
        self._asked = asked
        self._responses = services.store.responses
        self._access = access

    async def begin(self) -> None:
        """Nothing is kept before the end."""

    async def done(self, response: Json) -> None:
        """Keep it, unless it is not to be kept."""
        body, items = self._asked.body, self._asked.dialogue.input_items
        if body.conversation is not None:
            where, keep = body.conversation.id, body.is_kept
            await asyncio.to_thread(self._responses.add_to_conversation, response, items, where, self._access, keep=keep)
        elif body.is_kept:
            await asyncio.to_thread(self._responses.add, response, items, self._access)

    async def failed(self, response: Json) -> None:
        """Keep it, unless it is not to be kept; a conversation gets nothing of it."""
        if self._asked.body.is_kept:
            await asyncio.to_thread(self._responses.add, response, self._asked.dialogue.input_items, self._access)
