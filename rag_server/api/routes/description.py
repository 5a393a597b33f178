"""GET /openapi.json: this server's description."""

import asyncio

from fastapi import APIRouter, Request, Response

from rag_server.api.description import Description

router = APIRouter()


@router.get("/openapi.json")
async def get_description(request: Request) -> Response:
    """Give the description of this server in OpenAPI 3.1."""
    description: Description = request.app.state.description
    # The first one takes seconds: the types of the whole API are read.
    return Response(await asyncio.to_thread(description.written), media_type="application/json")
