"""POST /v1/chat/completions: answered from vector stores, or passed through to the engine."""

import asyncio

from fastapi import APIRouter, Request, Response

from rag_server.api.deps import AccessDep, PassageUrlDep, ServicesDep
from rag_server.api.disconnect import CLIENT_CLOSED_REQUEST, json_while_connected, while_connected
from rag_server.api.options import options_with
from rag_server.api.schemas import ChatBody
from rag_server.api.sse import event_stream
from rag_server.errors import InvalidRequestError, ModelNotFoundError, NotFoundError
from rag_server.filters import parse_filter
from rag_server.pipeline import RagRequest
from rag_server.protocols import Json
from rag_server.services import Services
from rag_server.types import Access, VectorStore

router = APIRouter()

RAG_PREFIX = "rag/"


@router.post("/v1/chat/completions")
async def create_chat_completion(
    body: ChatBody, request: Request, services: ServicesDep, access: AccessDep, passage_url: PassageUrlDep
) -> Response:
    """Answer a conversation, streamed or whole; with passages and citations when the model or `rag` names vector stores."""
    engine_body = body.model_dump(exclude={"rag"}, exclude_unset=True)
    stores = await asyncio.to_thread(_vector_stores, body, services, access)
    if not stores:
        return await _pass_through(engine_body, request, services)
    pipeline = await services.pipeline()
    filters = None if body.rag is None or body.rag.filters is None else parse_filter(body.rag.filters)
    rag_request = RagRequest(
        body=engine_body,
        model_name=body.model,
        engine_model=None if body.model.startswith(RAG_PREFIX) else body.model,
        vector_stores=stores,
        options=options_with(services.default_options, body.rag),
        passage_url=passage_url,
        access=access,
        filter=filters,
    )
    prepared = await while_connected(request, pipeline.prepare(rag_request))
    if prepared is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    if body.stream:
        return await event_stream(pipeline.stream(prepared))
    return await json_while_connected(request, pipeline.complete(prepared))


async def _pass_through(engine_body: Json, request: Request, services: Services) -> Response:
    if engine_body.get("stream"):
        return await event_stream(services.engine.stream_chat(engine_body))
    return await json_while_connected(request, services.engine.chat(engine_body))


def _vector_stores(body: ChatBody, services: Services, access: Access) -> tuple[VectorStore, ...]:
    """Return the vector stores that the request names in `rag` or by its model, none for a plain engine model."""
    if body.rag is not None and body.rag.vector_store_ids:
        return tuple(services.store.vector_stores.get(name, access) for name in dict.fromkeys(body.rag.vector_store_ids))
    if not body.model.startswith(RAG_PREFIX):
        if body.rag is not None:
            raise InvalidRequestError("name at least one vector store, or use a model rag/<name>", "rag.vector_store_ids")
        return ()
    name = body.model.removeprefix(RAG_PREFIX)
    try:
        return (services.store.vector_stores.get(name, access),)
    except NotFoundError as error:
        raise ModelNotFoundError(f"there is no model {body.model!r}: {error}") from None
