"""Models: the engine's own, one per vector store, and the embedding model. Deleting one deletes its vector store."""

import asyncio

import structlog
from fastapi import APIRouter

from rag_server.api.asking import RAG_PREFIX
from rag_server.api.deps import AccessDep, FullAccessDep, ServicesDep
from rag_server.errors import ForbiddenError, ModelNotFoundError, NotFoundError, RagServerError
from rag_server.protocols import Json
from rag_server.services import Services
from rag_server.types import Access

log = structlog.get_logger()
router = APIRouter()

OWNER = "rag-server"


@router.get("/v1/models")
async def list_models(services: ServicesDep, access: AccessDep) -> Json:
    """List the models; while the engine is not up, those of this server."""
    return {"object": "list", "data": await _models(services, access)}


@router.get("/v1/models/{model:path}")
async def get_model(model: str, services: ServicesDep, access: AccessDep) -> Json:
    """Return one model."""
    return await _model(model, services, access)


@router.delete("/v1/models/{model:path}")
async def delete_model(model: str, services: ServicesDep, access: FullAccessDep) -> Json:
    """Delete a model `rag/NAME`, which is its vector store with everything that was indexed in it."""
    if not model.startswith(RAG_PREFIX):
        found = await _model(model, services, access)
        raise ForbiddenError(f"{found['id']!r} is not made of documents: it is served as the server's settings say")
    try:
        store = await asyncio.to_thread(services.store.vector_stores.get, model.removeprefix(RAG_PREFIX), access)
    except NotFoundError:
        raise _no_model(model) from None
    await asyncio.to_thread(services.store.vector_stores.delete, store)
    await asyncio.to_thread(services.indexes.forget, store.id)
    return {"id": model, "object": "model", "deleted": True}


async def _model(model: str, services: Services, access: Access) -> Json:
    for candidate in await _models(services, access):
        if candidate.get("id") == model:
            return candidate
    raise _no_model(model)


async def _models(services: Services, access: Access) -> list[Json]:
    stores = await asyncio.to_thread(services.store.vector_stores.list, access)
    ours = [_object(f"{RAG_PREFIX}{store.name}", store.created_at) for store in stores]
    try:
        engines = [{**_object("", 0), **model} for model in await services.engine.models()]
    except RagServerError as error:
        log.warning("the engine's models are not listed", reason=str(error))
        engines = []
    embedder = services.loaded_embedder
    # It is no model to chat with, so it comes last, and says what it is for.
    embedding = [] if embedder is None else [{**_object(embedder.model_id, 0), "rag": {"task": "embed"}}]
    return [*ours, *engines, *embedding]


def _object(name: str, created: int) -> Json:
    return {"id": name, "object": "model", "created": created, "owned_by": OWNER}


def _no_model(model: str) -> ModelNotFoundError:
    return ModelNotFoundError(f"there is no model {model!r}; GET /v1/models lists them")
