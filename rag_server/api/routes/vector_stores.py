"""Vector stores: create, list, get, rename, delete, search."""

import asyncio

from fastapi import APIRouter

from rag_server.answer import PassageUrl, ranking_object
from rag_server.api.deps import AccessDep, FullAccessDep, PassageUrlDep, ServicesDep
from rag_server.api.listing import list_object
from rag_server.api.options import options_with
from rag_server.api.routes.vector_store_files import attach
from rag_server.api.schemas import AttachBody, CreateVectorStoreBody, RenameBody, SearchBody
from rag_server.errors import InvalidRequestError
from rag_server.filters import parse_filter
from rag_server.observability import StageTimer
from rag_server.protocols import Json
from rag_server.services import Services
from rag_server.types import Access, Passage, Query, VectorStore

router = APIRouter()


@router.post("/v1/vector_stores")
async def create_vector_store(body: CreateVectorStoreBody, services: ServicesDep, access: AccessDep) -> Json:
    """Make a vector store, with files that were uploaded before."""
    embedder = await services.embedder()
    uploads = [await asyncio.to_thread(services.store.uploads.get, file_id, access) for file_id in body.file_ids]
    store = await asyncio.to_thread(services.store.vector_stores.create, body.name, access, embedder)
    for upload in uploads:
        attached = AttachBody(file_id=upload.id, chunking_strategy=body.chunking_strategy)
        await asyncio.to_thread(attach, services, store, attached, access)
    return await asyncio.to_thread(_vector_store_object, services, store, access)


@router.get("/v1/vector_stores")
async def list_vector_stores(services: ServicesDep, access: AccessDep) -> Json:
    """List the vector stores."""
    stores = await asyncio.to_thread(services.store.vector_stores.list, access)
    data = [await asyncio.to_thread(_vector_store_object, services, store, access) for store in stores]
    return list_object(data)


@router.get("/v1/vector_stores/{vector_store_id}")
async def get_vector_store(vector_store_id: str, services: ServicesDep, access: AccessDep) -> Json:
    """Return the vector store of that id or name."""
    store = await asyncio.to_thread(services.store.vector_stores.get, vector_store_id, access)
    return await asyncio.to_thread(_vector_store_object, services, store, access)


@router.post("/v1/vector_stores/{vector_store_id}")
async def rename_vector_store(vector_store_id: str, body: RenameBody, services: ServicesDep, access: FullAccessDep) -> Json:
    """Give the vector store another name."""
    store = await asyncio.to_thread(services.store.vector_stores.get, vector_store_id, access)
    await asyncio.to_thread(services.store.vector_stores.rename, store, body.name)
    return await get_vector_store(store.id, services, access)


@router.delete("/v1/vector_stores/{vector_store_id}")
async def delete_vector_store(vector_store_id: str, services: ServicesDep, access: FullAccessDep) -> Json:
    """Remove the vector store with everything that was indexed in it; the uploads stay."""
    store = await asyncio.to_thread(services.store.vector_stores.get, vector_store_id, access)
    await asyncio.to_thread(services.store.vector_stores.delete, store)
    await asyncio.to_thread(services.indexes.forget, store.id)
    return {"id": store.id, "object": "vector_store.deleted", "deleted": True}


@router.post("/v1/vector_stores/{vector_store_id}/search")
async def search_vector_store(
    vector_store_id: str, body: SearchBody, services: ServicesDep, access: AccessDep, passage_url: PassageUrlDep
) -> Json:
    """Return the passages of one vector store that answer the query best; several queries are joined into one."""
    store = await asyncio.to_thread(services.store.vector_stores.get, vector_store_id, access)
    queries = [body.query] if isinstance(body.query, str) else body.query
    pipeline = await services.pipeline()
    timer = StageTimer()
    options = options_with(services.default_options, body.rag)
    if body.rag is not None and body.rag.filters is not None:
        raise InvalidRequestError("in a search, filters stand beside the query, as OpenAI has them", "rag.filters")
    filters = None if body.filters is None else parse_filter(body.filters)
    query = Query("\n".join(queries), (store,), access, filters)
    ranking = await pipeline.find_passages(query, options, timer, limit=body.max_num_results)
    return {
        "object": "vector_store.search_results.page",
        "search_query": queries,
        "data": [_result(passage, passage_url) for passage in ranking.passages],
        "has_more": False,
        "next_page": None,
        "rag": {"rerank": ranking_object(options.rerank, ranking.report), "timings_ms": timer.timings_ms},
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
            "place": dict(passage.place),
            "url": passage_url(passage.id),
        },
    }


def _vector_store_object(services: Services, store: VectorStore, access: Access) -> Json:
    counts = services.store.files.counts(store, access)
    total = sum(counts.values())
    counts["in_progress"] += counts.pop("queued")
    return {
        "id": store.id,
        "object": "vector_store",
        "created_at": store.created_at,
        "name": store.name,
        "status": "in_progress" if counts["in_progress"] else "completed",
        "usage_bytes": services.store.files.usage_bytes(store, access),
        "file_counts": {**counts, "total": total},
        "last_active_at": None,
        "metadata": {},
    }
