"""Passages: what a citation's address shows, the text round it, the file that it comes from, and all those of a file."""

import asyncio
from dataclasses import asdict
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import JSONResponse, StreamingResponse

from rag_server.answer import PassageUrl, passage_object
from rag_server.api.deps import AccessDep, PassageUrlDep, ServicesDep
from rag_server.api.listing import list_object
from rag_server.errors import InvalidRequestError
from rag_server.originals import Original, original_of
from rag_server.protocols import Json
from rag_server.services import Services
from rag_server.types import Access, Page, Passage

router = APIRouter()

# What a database holds.
MAX_ID = 2**63 - 1
PassageId = Annotated[int, Path(ge=0, le=MAX_ID)]
# No text that a database holds has as many characters.
Offset = Annotated[int | None, Query(ge=0, le=2**31 - 1)]


@router.get("/v1/passages/{passage_id}")
async def get_passage(passage_id: PassageId, services: ServicesDep, access: AccessDep, passage_url: PassageUrlDep) -> Json:
    """Return a passage."""
    stored = await asyncio.to_thread(services.store.passages.passage, passage_id, access)
    shown = _passage_object(stored.passage, stored.vector_store_id, passage_url)
    return {**shown, "characters": stored.characters}


@router.get("/v1/passages/{passage_id}/text")
async def get_text(
    passage_id: PassageId, services: ServicesDep, access: AccessDep, start: Offset = None, end: Offset = None
) -> Response:
    """Return the text of the passage's document, or a stretch of it, with the pages, sheets, slides and headings in it."""
    if start is not None and end is not None and end < start:
        raise InvalidRequestError("the end of a stretch is not before its start", "end")
    stretch = await asyncio.to_thread(services.store.passages.stretch, passage_id, access, start=start, end=end)
    shown = asdict(stretch)
    return JSONResponse({"object": "passage.text", "passage_id": passage_id, **shown})


@router.get("/v1/passages/{passage_id}/original")
async def get_original(passage_id: PassageId, services: ServicesDep, access: AccessDep) -> StreamingResponse:
    """Return the file that the passage comes from, byte for byte as it was indexed."""
    original = await asyncio.to_thread(_original, services, passage_id, access)
    headers = {"content-length": str(original.num_bytes), "content-disposition": _attachment(original.filename)}
    # Never as a page of this server: it may hold anything.
    return StreamingResponse(original.parts, media_type="application/octet-stream", headers=headers)


@router.get("/v1/vector_stores/{vector_store_id}/files/{file_id}/passages")
async def list_passages(
    vector_store_id: str,
    file_id: str,
    services: ServicesDep,
    access: AccessDep,
    passage_url: PassageUrlDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "asc",
    after: Annotated[int | None, Query(ge=0, le=MAX_ID)] = None,
) -> Json:
    """List the passages of a file in the order of its text."""
    page = Page(limit, order, after)
    passages, has_more, store_id = await asyncio.to_thread(_page, services, vector_store_id, file_id, access, page)
    return list_object([_passage_object(passage, store_id, passage_url) for passage in passages], has_more=has_more)


def _page(
    services: Services, vector_store_id: str, file_id: str, access: Access, page: Page
) -> tuple[list[Passage], bool, str]:
    store = services.store.vector_stores.get(vector_store_id, access)
    file = services.store.files.get(store, file_id, access)
    passages, has_more = services.store.passages.page(file, access, page)
    return passages, has_more, store.id


def _original(services: Services, passage_id: int, access: Access) -> Original:
    file = services.store.passages.file(passage_id, access)
    chunking = services.settings.chunking.model_copy(update=dict(file.chunking or {}))
    return original_of(file, services.store.uploads, chunking, tenant=access.tenant)


def _passage_object(passage: Passage, vector_store_id: str, url: PassageUrl) -> Json:
    shown = passage_object(passage, url)
    del shown["score"], shown["rank"]
    return {"object": "passage", **shown, "vector_store_id": vector_store_id, "attributes": dict(passage.attributes)}


def _attachment(filename: str) -> str:
    """Return the header that has a browser keep a file under the last part of its name, and not show it."""
    name = filename.replace("\\", "/").rpartition("/")[2]
    return f"attachment; filename*=UTF-8''{quote(name, safe='')}"
