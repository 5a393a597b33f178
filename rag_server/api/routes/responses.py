"""The Responses API: create, stream, get, delete, cancel, input items, and the number of tokens of an input."""

import asyncio
import json
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse

from rag_server.api.answers import json_answer
from rag_server.api.deps import AccessDep, PassageUrlDep, ServicesDep
from rag_server.api.listing import PageDep, list_object
from rag_server.api.responses.answering import Answering, KeepingAtTheEnd, understand
from rag_server.api.responses.background import BackgroundRuns
from rag_server.api.responses.bodies import ResponseBody, TokenCountBody
from rag_server.api.responses.dialogue import engine_model_of, read_dialogue
from rag_server.api.responses.including import IncludeDep
from rag_server.api.responses.shape import shown_items, shown_response
from rag_server.api.sse import event_stream
from rag_server.protocols import Json

router = APIRouter()


async def _runs(request: Request) -> BackgroundRuns:
    runs: BackgroundRuns = request.app.state.background_runs
    return runs


RunsDep = Annotated[BackgroundRuns, Depends(_runs)]


@router.post("/v1/responses")
async def create_response(
    body: ResponseBody, services: ServicesDep, access: AccessDep, passage_url: PassageUrlDep, runs: RunsDep
) -> Response:
    """Answer, streamed or whole, at once or in the background; with a search first where the tools or the model ask for it."""
    asked = await understand(body, services, access, passage_url)
    if body.background:
        run = await runs.start(asked, access)
        if body.stream:
            return await event_stream(run.follow(), named=True, counted=False)
        return JSONResponse(run.answering.shown())
    answering = Answering(asked, services, KeepingAtTheEnd(asked, services, access))
    if body.stream:
        return await event_stream(answering.stream(hold=True), named=True)
    return await json_answer(answering.whole())


@router.post("/v1/responses/input_tokens")
async def count_input_tokens(body: TokenCountBody, services: ServicesDep, access: AccessDep) -> Json:
    """Count the tokens that the engine would read; of tools, as many as their description in JSON has."""
    tools = json.dumps([tool.shown() for tool in body.tools], ensure_ascii=False) if body.tools else None
    described = "\n\n".join(text for text in (body.instructions, tools) if text)
    dialogue = await read_dialogue(body.model_copy(update={"instructions": described}), services, access)
    model = await engine_model_of(body.model, services)
    count = await services.engine.count_tokens(model, dialogue.messages)
    return {"object": "response.input_tokens", "input_tokens": count}


@router.get("/v1/responses/{response_id}")
async def get_response(
    response_id: str,
    services: ServicesDep,
    access: AccessDep,
    runs: RunsDep,
    include: IncludeDep,
    stream: bool = False,
    starting_after: Annotated[int | None, Query(ge=0)] = None,
    include_obfuscation: bool = False,
) -> Response:
    """Return a response, or stream the events of one that was made in the background and streamed."""
    if stream:
        events = await runs.events(response_id, access, -1 if starting_after is None else starting_after)
        return await event_stream(events, named=True, counted=False)
    response = await asyncio.to_thread(services.store.responses.get, response_id, access)
    return JSONResponse(shown_response(response, include))


@router.delete("/v1/responses/{response_id}")
async def delete_response(response_id: str, access: AccessDep, runs: RunsDep) -> Json:
    """Remove a response; if it is still made, the work ends."""
    await runs.delete(response_id, access)
    return {"id": response_id, "object": "response.deleted", "deleted": True}


@router.post("/v1/responses/{response_id}/cancel")
async def cancel_response(response_id: str, access: AccessDep, runs: RunsDep) -> Json:
    """Stop a response that is made in the background."""
    return shown_response(await runs.cancel(response_id, access), None)


@router.get("/v1/responses/{response_id}/input_items")
async def list_input_items(
    response_id: str, page: PageDep, services: ServicesDep, access: AccessDep, include: IncludeDep
) -> Json:
    """List the items of a response's input, the newest first; what it followed is the input of others."""
    found, has_more = await asyncio.to_thread(services.store.responses.input_page, response_id, access, page)
    return list_object(shown_items(found, include), has_more=has_more)
