"""POST /v1/chat/completions: answered from vector stores, or passed through to the engine."""

from functools import partial

from fastapi import APIRouter, Response

from rag_server.api.answers import json_answer
from rag_server.api.asking import rag_request, vector_stores_of
from rag_server.api.deps import AccessDep, PassageUrlDep, ServicesDep
from rag_server.api.schemas_chat import ChatBody
from rag_server.api.source_events import with_source_events
from rag_server.api.sse import event_stream
from rag_server.api.storing import Storing

router = APIRouter()


@router.post("/v1/chat/completions")
async def create_chat_completion(
    body: ChatBody, services: ServicesDep, access: AccessDep, passage_url: PassageUrlDep
) -> Response:
    """Answer a conversation, streamed or whole; with passages and citations when the model or `rag` names vector stores."""
    engine_body = body.engine_body()
    storing = Storing(services.store.chat_completions, body, access) if body.store else None
    stores = await vector_stores_of(body.model, body.rag, services, access)
    if stores:
        asked = rag_request(
            engine_body,
            model=body.model,
            rag=body.rag,
            stores=stores,
            services=services,
            access=access,
            passage_url=passage_url,
            trace=body.rag is not None and body.rag.trace,
        )
        pipeline = await services.pipeline()
        prepared = await pipeline.prepare(asked)
        whole, parts = partial(pipeline.complete, prepared), partial(pipeline.stream, prepared)
    else:
        whole, parts = partial(services.engine.chat, engine_body), partial(services.engine.stream_chat, engine_body)
    if body.stream:
        chunks = parts() if storing is None else storing.stream(parts())
        wants_sources = body.rag is not None and body.rag.source_events
        return await event_stream(with_source_events(chunks) if wants_sources else chunks)
    return await json_answer(whole() if storing is None else storing.whole(whole()))
