"""GET /v1/models: the engine's own models, and one per vector store."""

import asyncio

import structlog
from fastapi import APIRouter

from rag_server.api.deps import AccessDep, ServicesDep
from rag_server.api.routes.chat import RAG_PREFIX
from rag_server.errors import EngineUnavailableError, ModelNotFoundError
from rag_server.protocols import Json
from rag_server.services import Services
from rag_server.types import Access

log = structlog.get_logger()
router = APIRouter()


@router.get("/v1/models")
async def list_models(services: ServicesDep, access: AccessDep) -> Json:
    """List the models; while the engine is not up, those of the vector stores."""
    return {"object": "list", "data": await _models(services, access)}


@router.get("/v1/models/{model:path}")
async def get_model(model: str, services: ServicesDep, access: AccessDep) -> Json:
    """Return one model."""
    for candidate in await _models(services, access):
        if candidate.get("id") == model:
            return candidate
    raise ModelNotFoundError(f"there is no model {model!r}; GET /v1/models lists them")


async def _models(services: Services, access: Access) -> list[Json]:
    stores = await asyncio.to_thread(services.store.vector_stores.list, access)
    ours: list[Json] = [
        {"id": f"{RAG_PREFIX}{store.name}", "object": "model", "created": store.created_at, "owned_by": "rag-server"}
        for store in stores
    ]
    try:
        return [*ours, *await services.engine.models()]
    except EngineUnavailableError as error:
        log.warning("the engine's models are not listed", reason=str(error))
        return ours
