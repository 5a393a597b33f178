"""File batches: files that are put into a vector store together."""

import asyncio

from fastapi import APIRouter

from rag_server.api.attaching import ShownStatus, file_object, new_files, shown_counts, statuses_of
from rag_server.api.deps import AccessDep, ServicesDep
from rag_server.api.listing import PageDep, list_object
from rag_server.api.schemas_stores import CreateFileBatchBody
from rag_server.protocols import Json
from rag_server.services import Services
from rag_server.types import Access, FileBatch, VectorStore

router = APIRouter()

PATH = "/v1/vector_stores/{vector_store_id}/file_batches"


@router.post(PATH)
async def create_file_batch(vector_store_id: str, body: CreateFileBatchBody, services: ServicesDep, access: AccessDep) -> Json:
    """Put uploaded files into the vector store, all of them or none; they are indexed in the background."""
    store = await asyncio.to_thread(services.store.vector_stores.use, vector_store_id, access)
    path = "" if body.files is None else "files."
    files = await asyncio.to_thread(new_files, services, body.attached(), access, path=path)
    return _batch_object(await asyncio.to_thread(services.store.file_batches.create, store, files, access))


@router.get(PATH + "/{batch_id}")
async def get_file_batch(vector_store_id: str, batch_id: str, services: ServicesDep, access: AccessDep) -> Json:
    """Return how far the files are."""
    _, batch = await asyncio.to_thread(_find, services, vector_store_id, batch_id, access)
    return _batch_object(batch)


@router.post(PATH + "/{batch_id}/cancel")
async def cancel_file_batch(vector_store_id: str, batch_id: str, services: ServicesDep, access: AccessDep) -> Json:
    """Stop indexing what is not indexed yet; what is stored already stays until it is deleted."""
    store, batch = await asyncio.to_thread(_find, services, vector_store_id, batch_id, access)
    return _batch_object(await asyncio.to_thread(services.store.file_batches.cancel, store, batch.id, access))


@router.get(PATH + "/{batch_id}/files")
async def list_files_of_batch(
    vector_store_id: str,
    batch_id: str,
    page: PageDep,
    services: ServicesDep,
    access: AccessDep,
    filter: ShownStatus | None = None,  # noqa: A002 - OpenAI's name
) -> Json:
    """List the batch's files, the newest first."""
    _, batch = await asyncio.to_thread(_find, services, vector_store_id, batch_id, access)
    files, has_more = await asyncio.to_thread(
        services.store.file_batches.page, batch, access, page, statuses=statuses_of(filter)
    )
    return list_object([file_object(file) for file in files], has_more=has_more)


def _find(services: Services, vector_store_id: str, batch_id: str, access: Access) -> tuple[VectorStore, FileBatch]:
    store = services.store.vector_stores.get(vector_store_id, access)
    return store, services.store.file_batches.get(store, batch_id, access)


def _batch_object(batch: FileBatch) -> Json:
    counts = shown_counts(batch.counts)
    return {
        "id": batch.id,
        "object": "vector_store.files_batch",
        "created_at": batch.created_at,
        "vector_store_id": batch.vector_store_id,
        "status": _status(batch, counts),
        "file_counts": counts,
    }


def _status(batch: FileBatch, counts: dict[str, int]) -> str:
    if batch.cancelled_at is not None:
        return "cancelled"
    if counts["in_progress"]:
        return "in_progress"
    return "failed" if counts["total"] and counts["failed"] == counts["total"] else "completed"
