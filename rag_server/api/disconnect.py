"""Ends the work for a client that has gone away."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from rag_server.protocols import Json

Result = TypeVar("Result")

CLIENT_CLOSED_REQUEST = 499


async def json_while_connected(request: Request, work: Coroutine[Any, Any, Json]) -> Response:
    """Return the result of `work` as the response; one that nobody reads when the client goes away first."""
    answer = await while_connected(request, work)
    return Response(status_code=CLIENT_CLOSED_REQUEST) if answer is None else JSONResponse(answer)


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result | None:
    """Return the result of `work`, or cancel it and return None when the client goes away first.

    Only a streaming response is cancelled by the framework; without this, the engine would go on for nobody.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        return None
    finally:
        for pending in (task, gone):
            pending.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue
