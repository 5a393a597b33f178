"""The files of a vector store: attach, list, get, change attributes, cancel, delete."""

import asyncio
from typing import Literal

from fastapi import APIRouter

from rag_server.api.deps import AccessDep, ServicesDep
from rag_server.api.listing import list_object
from rag_server.api.schemas import AttachBody, AttributesBody, ChunkingStrategy
from rag_server.errors import ForbiddenError
from rag_server.filters import parse_attributes
from rag_server.protocols import Json
from rag_server.services import Services
from rag_server.store.files import UPLOAD
from rag_server.types import Access, NewFile, StoredFile, VectorStore

router = APIRouter()

PATH = "/v1/vector_stores/{vector_store_id}/files"


@router.post(PATH)
async def attach_file(vector_store_id: str, body: AttachBody, services: ServicesDep, access: AccessDep) -> Json:
    """Put an uploaded file into the vector store; it is indexed in the background. Once more means to try again."""
    store = await asyncio.to_thread(services.store.vector_stores.get, vector_store_id, access)
    return _file_object(await asyncio.to_thread(attach, services, store, body, access))


@router.get(PATH)
async def list_files(
    vector_store_id: str,
    services: ServicesDep,
    access: AccessDep,
    filter: Literal["in_progress", "completed", "failed", "cancelled"] | None = None,  # noqa: A002 - OpenAI's name
) -> Json:
    """List the files."""
    store = await asyncio.to_thread(services.store.vector_stores.get, vector_store_id, access)
    files = await asyncio.to_thread(services.store.files.readable, store, access)
    data = [entry for entry in map(_file_object, files) if filter in (None, entry["status"])]
    return list_object(data)


@router.get(PATH + "/{file_id}")
async def get_file(vector_store_id: str, file_id: str, services: ServicesDep, access: AccessDep) -> Json:
    """Return one file with its state, and what is wrong with it."""
    _, file = await asyncio.to_thread(_find, services, vector_store_id, file_id, access)
    return _file_object(file)


@router.post(PATH + "/{file_id}")
async def set_attributes(
    vector_store_id: str, file_id: str, body: AttributesBody, services: ServicesDep, access: AccessDep
) -> Json:
    """Replace the file's attributes."""
    store, file = await asyncio.to_thread(_find_to_change, services, vector_store_id, file_id, access)
    attributes = parse_attributes(body.attributes or {})
    return _file_object(await asyncio.to_thread(services.store.files.set_attributes, store, file, attributes))


@router.post(PATH + "/{file_id}/cancel")
async def cancel_file(vector_store_id: str, file_id: str, services: ServicesDep, access: AccessDep) -> Json:
    """Stop indexing the file; what is stored of it already stays until it is deleted."""
    store, file = await asyncio.to_thread(_find_to_change, services, vector_store_id, file_id, access)
    await asyncio.to_thread(services.store.files.cancel, file)
    return _file_object(await asyncio.to_thread(services.store.files.get, store, file.id, access))


@router.delete(PATH + "/{file_id}")
async def delete_file(vector_store_id: str, file_id: str, services: ServicesDep, access: AccessDep) -> Json:
    """Take the file out of the vector store with everything that was indexed of it; the upload stays."""
    store, file = await asyncio.to_thread(_find_to_change, services, vector_store_id, file_id, access)
    await asyncio.to_thread(services.store.files.delete, store, file)
    return {"id": file.id, "object": "vector_store.file.deleted", "deleted": True}


def attach(services: Services, store: VectorStore, body: AttachBody, access: Access) -> StoredFile:
    """Queue an upload to be indexed.

    Raises:
        NotFoundError: There is no such upload.
        InvalidAttributeError: An attribute is of no type that can be stored.
    """
    upload = services.store.uploads.get(body.file_id, access)
    new = NewFile(
        source=f"{UPLOAD}{upload.id}",
        filename=upload.filename,
        bytes=upload.bytes,
        id=upload.id,
        attributes=parse_attributes(body.attributes or {}),
        principals=_principals(body, access),
        chunking=_chunking(body.chunking_strategy),
    )
    return services.store.files.enqueue(store, new)


def _principals(body: AttachBody, access: Access) -> tuple[str, ...] | None:
    """Return who may read a file: those that the request names, and for a limited key its own by default."""
    named = body.rag.principals
    if named is None:
        return None if access.principals is None else tuple(sorted(access.principals))
    return tuple(sorted(set(named)))


def _find_to_change(services: Services, vector_store_id: str, file_id: str, access: Access) -> tuple[VectorStore, StoredFile]:
    """Return a file that the caller may change.

    Raises:
        ForbiddenError: It is everyone's, and the key is limited.
    """
    store, file = _find(services, vector_store_id, file_id, access)
    if access.principals is not None and file.principals is None:
        raise ForbiddenError("this API key is limited to some documents and cannot change one that is open to everyone")
    return store, file


def _find(services: Services, vector_store_id: str, file_id: str, access: Access) -> tuple[VectorStore, StoredFile]:
    store = services.store.vector_stores.get(vector_store_id, access)
    return store, services.store.files.get(store, file_id, access)


def _chunking(strategy: ChunkingStrategy | None) -> dict[str, int] | None:
    if strategy is None or strategy.static is None:
        return None
    return {"max_tokens": strategy.static.max_chunk_size_tokens, "overlap_tokens": strategy.static.chunk_overlap_tokens}


def _file_object(file: StoredFile) -> Json:
    static = None if file.chunking is None else file.chunking
    strategy: Json = {"type": "other"}
    if static is not None:
        numbers = {"max_chunk_size_tokens": static["max_tokens"], "chunk_overlap_tokens": static["overlap_tokens"]}
        strategy = {"type": "static", "static": numbers}
    return {
        "id": file.id,
        "object": "vector_store.file",
        "created_at": file.created_at,
        "vector_store_id": file.vector_store_id,
        "status": "in_progress" if file.status == "queued" else file.status,
        "usage_bytes": file.bytes,
        "attributes": dict(file.attributes),
        "chunking_strategy": strategy,
        "last_error": None if file.error is None else {"code": "invalid_file", "message": file.error},
        "rag": {"filename": file.filename, "bytes_read": file.bytes_read, "is_queued": file.status == "queued"},
    }
