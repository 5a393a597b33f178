"""The files of a vector store: attach, list, get, content, change attributes, cancel, delete."""

import asyncio
import json
from collections.abc import Iterator

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from rag_server.api.attaching import ShownStatus, file_object, new_files, statuses_of
from rag_server.api.deps import AccessDep, ServicesDep
from rag_server.api.listing import PageDep, list_object
from rag_server.api.schemas_stores import AttachBody, AttributesBody
from rag_server.filters import parse_attributes
from rag_server.protocols import Json
from rag_server.services import Services
from rag_server.store.file_rows import check_may_change
from rag_server.types import Access, StoredFile, VectorStore

router = APIRouter()

PATH = "/v1/vector_stores/{vector_store_id}/files"


@router.post(PATH)
async def attach_file(vector_store_id: str, body: AttachBody, services: ServicesDep, access: AccessDep) -> Json:
    """Put an uploaded file into the vector store; it is indexed in the background. Once more means to try again."""
    store = await asyncio.to_thread(services.store.vector_stores.use, vector_store_id, access)
    (new,) = await asyncio.to_thread(new_files, services, [body], access)
    return file_object(await asyncio.to_thread(services.store.files.enqueue, store, new, access))


@router.get(PATH)
async def list_files(
    vector_store_id: str,
    page: PageDep,
    services: ServicesDep,
    access: AccessDep,
    filter: ShownStatus | None = None,  # noqa: A002 - OpenAI's name
) -> Json:
    """List the files, the newest first."""
    store = await asyncio.to_thread(services.store.vector_stores.get, vector_store_id, access)
    files, has_more = await asyncio.to_thread(services.store.files.page, store, access, page, statuses=statuses_of(filter))
    return list_object([file_object(file) for file in files], has_more=has_more)


@router.get(PATH + "/{file_id}")
async def get_file(vector_store_id: str, file_id: str, services: ServicesDep, access: AccessDep) -> Json:
    """Return one file with its state, and what is wrong with it."""
    _, file = await asyncio.to_thread(_find, services, vector_store_id, file_id, access)
    return file_object(file)


@router.get(PATH + "/{file_id}/content")
async def get_content(vector_store_id: str, file_id: str, services: ServicesDep, access: AccessDep) -> StreamingResponse:
    """Return the text that was read out of the file, one part per document, all on one page."""
    _, file = await asyncio.to_thread(_find, services, vector_store_id, file_id, access)
    return StreamingResponse(_content_page(services.store.documents.texts(file)), media_type="application/json")


@router.post(PATH + "/{file_id}")
async def set_attributes(
    vector_store_id: str, file_id: str, body: AttributesBody, services: ServicesDep, access: AccessDep
) -> Json:
    """Replace the file's attributes."""
    store, file = await asyncio.to_thread(_find_to_change, services, vector_store_id, file_id, access)
    attributes = parse_attributes(body.attributes or {})
    return file_object(await asyncio.to_thread(services.store.files.set_attributes, store, file, attributes))


@router.post(PATH + "/{file_id}/cancel")
async def cancel_file(vector_store_id: str, file_id: str, services: ServicesDep, access: AccessDep) -> Json:
    """Stop indexing the file; what is stored of it already stays until it is deleted."""
    store, file = await asyncio.to_thread(_find_to_change, services, vector_store_id, file_id, access)
    await asyncio.to_thread(services.store.files.cancel, file)
    return file_object(await asyncio.to_thread(services.store.files.get, store, file.id, access))


@router.delete(PATH + "/{file_id}")
async def delete_file(vector_store_id: str, file_id: str, services: ServicesDep, access: AccessDep) -> Json:
    """Take the file out of the vector store with everything that was indexed of it; the upload stays."""
    store, file = await asyncio.to_thread(_find_to_change, services, vector_store_id, file_id, access)
    await asyncio.to_thread(services.store.files.delete, store, file)
    return {"id": file.id, "object": "vector_store.file.deleted", "deleted": True}


def _content_page(texts: Iterator[str]) -> Iterator[str]:
    """Yield the page piece by piece: what was read out of a large table may not fit into memory twice."""
    yield '{"object": "vector_store.file_content.page", "data": ['
    for number, text in enumerate(texts):
        yield (", " if number else "") + json.dumps({"type": "text", "text": text}, ensure_ascii=False)
    yield '], "has_more": false, "next_page": null}'


def _find_to_change(services: Services, vector_store_id: str, file_id: str, access: Access) -> tuple[VectorStore, StoredFile]:
    """Return a file that the caller may change.

    Raises:
        ForbiddenError: It is for others too, and the key is limited.
    """
    store, file = _find(services, vector_store_id, file_id, access)
    check_may_change(file, access)
    return store, file


def _find(services: Services, vector_store_id: str, file_id: str, access: Access) -> tuple[VectorStore, StoredFile]:
    store = services.store.vector_stores.get(vector_store_id, access)
    return store, services.store.files.get(store, file_id, access)
