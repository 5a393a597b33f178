"""Vector stores: create, list, get, change, delete, search."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from fastapi import APIRouter, Response

from rag_server.answer import PassageUrl, ranking_object
from rag_server.api.answers import json_answer
from rag_server.api.attaching import new_files, shown_counts
from rag_server.api.deps import AccessDep, FullAccessDep, PassageUrlDep, ServicesDep
from rag_server.api.listing import PageDep, list_object
from rag_server.api.options import options_with
from rag_server.api.schemas_stores import AttachBody, CreateVectorStoreBody, SearchBody, UpdateVectorStoreBody
from rag_server.api.search_scores import shown_scores
from rag_server.coalescing import all_of
from rag_server.errors import InvalidRequestError
from rag_server.filters import parse_filter
from rag_server.observability import StageTimer
from rag_server.pipeline import RagOptions, RagPipeline
from rag_server.protocols import Json
from rag_server.services import Services
from rag_server.store.vector_stores import expiry_of, is_expired
from rag_server.types import Access, NewVectorStore, Passage, Query, StoreUsage, VectorStore

router = APIRouter()


@router.post("/v1/vector_stores")
async def create_vector_store(body: CreateVectorStoreBody, services: ServicesDep, access: AccessDep) -> Json:
    """Make a vector store, with files that were uploaded before."""
    embedder = await services.embedder()
    attached = [AttachBody(file_id=file_id, chunking_strategy=body.chunking_strategy) for file_id in body.file_ids]
    files = await asyncio.to_thread(new_files, services, attached, access)
    days = None if body.expires_after is None else body.expires_after.days
    new = NewVectorStore(body.name, body.description, body.metadata or {}, days)
    store = await asyncio.to_thread(services.store.vector_stores.create, new, access, embedder, files)
    return await _shown(services, store, access)


@router.get("/v1/vector_stores")
async def list_vector_stores(page: PageDep, services: ServicesDep, access: AccessDep) -> Json:
    """List the vector stores, the newest first."""
    stores, has_more = await asyncio.to_thread(services.store.vector_stores.page, access, page)
    usage = await asyncio.to_thread(services.store.files.usage, [store.id for store in stores], access)
    return list_object([_vector_store_object(store, usage[store.id]) for store in stores], has_more=has_more)


@router.get("/v1/vector_stores/{vector_store_id}")
async def get_vector_store(vector_store_id: str, services: ServicesDep, access: AccessDep) -> Json:
    """Return the vector store of that id or name."""
    return await _shown(services, await asyncio.to_thread(services.store.vector_stores.get, vector_store_id, access), access)


@router.post("/v1/vector_stores/{vector_store_id}")
async def change_vector_store(
    vector_store_id: str, body: UpdateVectorStoreBody, services: ServicesDep, access: FullAccessDep
) -> Json:
    """Change name, expiry or metadata; null takes away what there is, and what is left out stays."""
    store = await asyncio.to_thread(services.store.vector_stores.get, vector_store_id, access)
    changes: Json = {}
    if "name" in body.model_fields_set:
        changes["name"] = body.name
    if "expires_after" in body.model_fields_set:
        changes["expires_after_days"] = None if body.expires_after is None else body.expires_after.days
    if "metadata" in body.model_fields_set:
        changes["metadata"] = body.metadata or {}
    return await _shown(services, await asyncio.to_thread(services.store.vector_stores.change, store, changes), access)


@router.delete("/v1/vector_stores/{vector_store_id}")
async def delete_vector_store(vector_store_id: str, services: ServicesDep, access: FullAccessDep) -> Json:
    """Remove the vector store with everything that was indexed in it; the uploads stay."""
    store = await asyncio.to_thread(services.store.vector_stores.get, vector_store_id, access)
    await asyncio.to_thread(services.store.vector_stores.delete, store)
    await asyncio.to_thread(services.indexes.forget, store.id)
    return {"id": store.id, "object": "vector_store.deleted", "deleted": True}


@router.post("/v1/vector_stores/{vector_store_id}/search")
async def search_vector_store(
    vector_store_id: str,
    body: SearchBody,
    services: ServicesDep,
    access: AccessDep,
    passage_url: PassageUrlDep,
) -> Response:
    """Return the passages of one vector store that answer the query best; several queries are joined into one."""
    if body.rag is not None and body.rag.filters is not None:
        raise InvalidRequestError("in a search, filters stand beside the query, as OpenAI has them", "rag.filters")
    filter_ = None if body.filters is None else parse_filter(body.filters)
    store = await services.vector_store(vector_store_id, access)
    query = Query("\n".join(body.query), (store,), access, filter_)
    return await json_answer(_search(body, query, services, passage_url))


async def _search(body: SearchBody, query: Query, services: Services, passage_url: PassageUrl) -> Json:
    pipeline = await services.pipeline()
    timer = StageTimer()
    rag: Json = {}
    queries = body.query
    if body.rewrite_query:
        with timer.stage("rewrite"):
            queries, rag["rewrite"] = await _rewritten(pipeline, body.query)
        query = replace(query, text="\n".join(queries))
    options = _options(body, services.default_options)
    ranking = await pipeline.find_passages(query, options, timer, limit=body.max_num_results)
    scores, kind = shown_scores(ranking, retrieve=options.retrieve, rerank=options.rerank)
    threshold = 0.0 if body.ranking_options is None else body.ranking_options.score_threshold
    shown = [(passage, score) for passage, score in zip(ranking.passages, scores, strict=True) if score >= threshold]
    return {
        "object": "vector_store.search_results.page",
        "search_query": queries,
        "data": [_result(passage, score, passage_url) for passage, score in shown],
        "has_more": False,
        "next_page": None,
        "rag": {
            **rag,
            "score": kind,
            "rerank": ranking_object(options.rerank, ranking.report),
            "timings_ms": timer.timings_ms,
        },
    }


async def _rewritten(pipeline: RagPipeline, queries: Sequence[str]) -> tuple[list[str], Json]:
    """Return the queries as the engine words them for a search, and what the answer says of it."""
    rewritten = await all_of(pipeline.rewrite_query(query) for query in queries)
    fallback = next((one.fallback for one in rewritten if one.fallback is not None), None)
    return [one.text for one in rewritten], {"queries": list(queries), "fallback": fallback}


def _options(body: SearchBody, defaults: RagOptions) -> RagOptions:
    """Return the settings, changed by OpenAI's ranker and, where the request has them, by our own options."""
    ranker = "auto" if body.ranking_options is None else body.ranking_options.ranker
    return options_with(replace(defaults, rerank="none") if ranker == "none" else defaults, body.rag)


def _result(passage: Passage, score: float, passage_url: PassageUrl) -> Json:
    return {
        "file_id": passage.file_id,
        "filename": passage.filename,
        "score": score,
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


async def _shown(services: Services, store: VectorStore, access: Access) -> Json:
    usage = await asyncio.to_thread(services.store.files.usage, [store.id], access)
    return _vector_store_object(store, usage[store.id])


def _vector_store_object(store: VectorStore, usage: StoreUsage) -> Json:
    counts = shown_counts(usage.counts)
    status = "expired" if is_expired(store) else "in_progress" if counts["in_progress"] else "completed"
    shown: Json = {
        "id": store.id,
        "object": "vector_store",
        "created_at": store.created_at,
        # OpenAI's objects always have one.
        "name": "" if store.name == store.id else store.name,
        "description": store.description,
        "status": status,
        "usage_bytes": usage.bytes,
        "file_counts": counts,
        "expires_at": expiry_of(store),
        "last_active_at": store.last_active_at,
        "metadata": dict(store.metadata),
    }
    if store.expires_after_days is not None:
        shown["expires_after"] = {"anchor": "last_active_at", "days": store.expires_after_days}
    return shown
