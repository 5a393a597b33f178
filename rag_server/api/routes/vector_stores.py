"""Vector stores: list, get, search."""

import asyncio

from fastapi import APIRouter

from rag_server.answer import PassageUrl
from rag_server.api.deps import PassageUrlDep, ServicesDep
from rag_server.api.options import options_with
from rag_server.api.schemas import SearchBody
from rag_server.observability import StageTimer
from rag_server.protocols import Json
from rag_server.services import Services
from rag_server.store.vector_stores import check_embedding
from rag_server.types import Passage, Query, VectorStore

router = APIRouter()


@router.get("/v1/vector_stores")
async def list_vector_stores(services: ServicesDep) -> Json:
    """List the vector stores."""
    stores = await asyncio.to_thread(services.store.vector_stores.list)
    data = [await asyncio.to_thread(_vector_store_object, services, store) for store in stores]
    ids = [entry["id"] for entry in data]
    return {
        "object": "list",
        "data": data,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
        "has_more": False,
    }


@router.get("/v1/vector_stores/{vector_store_id}")
async def get_vector_store(vector_store_id: str, services: ServicesDep) -> Json:
    """Return the vector store of that id or name."""
    store = await asyncio.to_thread(services.store.vector_stores.get, vector_store_id)
    return await asyncio.to_thread(_vector_store_object, services, store)


@router.post("/v1/vector_stores/{vector_store_id}/search")
async def search_vector_store(
    vector_store_id: str, body: SearchBody, services: ServicesDep, passage_url: PassageUrlDep
) -> Json:
    """Return the passages of one vector store that answer the query best; several queries are joined into one."""
    store = await asyncio.to_thread(services.store.vector_stores.get, vector_store_id)
    check_embedding(store, (await services.embedder()).model_id)
    queries = [body.query] if isinstance(body.query, str) else body.query
    pipeline = await services.pipeline()
    timer = StageTimer()
    options = options_with(services.default_options, body.rag)
    found = await pipeline.find_passages(Query("\n".join(queries), (store,)), options, timer, limit=body.max_num_results)
    return {
        "object": "vector_store.search_results.page",
        "search_query": queries,
        "data": [_result(passage, passage_url) for passage in found],
        "has_more": False,
        "next_page": None,
        "rag": {"timings_ms": timer.timings_ms},
    }


def _result(passage: Passage, passage_url: PassageUrl) -> Json:
    return {
        "file_id": passage.file_id,
        "filename": passage.filename,
        "score": passage.score,
        "attributes": {**passage.attributes, "document_id": passage.document_id},
        "content": [{"type": "text", "text": passage.text}],
        "rag": {
            "passage_id": passage.id,
            "title": passage.title,
            "start": passage.start,
            "end": passage.end,
            "url": passage_url(passage.id),
        },
    }


def _vector_store_object(services: Services, store: VectorStore) -> Json:
    counts = services.store.files.counts(store)
    return {
        "id": store.id,
        "object": "vector_store",
        "created_at": store.created_at,
        "name": store.name,
        "status": "in_progress" if counts["in_progress"] else "completed",
        "usage_bytes": services.store.files.usage_bytes(store),
        "file_counts": {**counts, "cancelled": 0, "total": sum(counts.values())},
        "last_active_at": None,
        "metadata": {},
    }
