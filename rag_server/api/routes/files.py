"""Uploaded files: upload, list, get, content, delete."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import FormData, UploadFile

from rag_server.api.deps import AccessDep, CallerDep, ServicesDep
from rag_server.api.fetching import fetched_file
from rag_server.api.listing import list_object
from rag_server.api.schemas_stores import MAX_FILE_BYTES, MAX_FILENAME_CHARACTERS, PURPOSES, FileExpiry
from rag_server.api.uploading import file_object, file_of, pieces
from rag_server.errors import InvalidRequestError
from rag_server.filters import UNSTORABLE
from rag_server.protocols import Json
from rag_server.services import Services
from rag_server.types import Access, Page, Upload

router = APIRouter()

# OpenAI's, also where a request says nothing.
MAX_LISTED = 10_000
_EXPIRY: TypeAdapter[FileExpiry] = TypeAdapter(FileExpiry)


@router.post("/v1/files")
async def upload_file(request: Request, services: ServicesDep, caller: CallerDep) -> Json:
    """Store a file, sent as a form with `file`, `purpose`, `expires_after[anchor]` and `expires_after[seconds]`.

    In the place of `file`, `url` names a document on the internet.
    """
    async with request.form(max_files=1, max_fields=10) as form:
        url = form.get("url")
        if isinstance(url, str) and "file" not in form:
            put = _put(form, services, caller.access)
            async with fetched_file(url, services, caller) as fetched:
                upload = await asyncio.to_thread(put, filename=fetched.filename, content=pieces(fetched.file))
        else:
            file = file_of(form.get("file"), "file", MAX_FILE_BYTES)
            put = _put(form, services, caller.access)
            upload = await asyncio.to_thread(put, filename=_filename(file), content=pieces(file.file))
    return file_object(upload)


@router.get("/v1/files")
async def list_files(
    services: ServicesDep,
    access: AccessDep,
    purpose: Annotated[str | None, Query(max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = MAX_LISTED,
    order: Literal["asc", "desc"] = "desc",
    after: Annotated[str | None, Query(max_length=200)] = None,
) -> Json:
    """List the uploaded files, the newest first."""
    page = Page(limit, order, after)
    uploads, has_more = await asyncio.to_thread(services.store.uploads.page, access, page, purpose=purpose)
    return list_object([file_object(upload) for upload in uploads], has_more=has_more)


@router.get("/v1/files/{file_id}")
async def get_file(file_id: str, services: ServicesDep, access: AccessDep) -> Json:
    """Return what is known of an uploaded file."""
    return file_object(await asyncio.to_thread(services.store.uploads.get, file_id, access))


@router.get("/v1/files/{file_id}/content")
async def get_content(file_id: str, services: ServicesDep, access: AccessDep) -> StreamingResponse:
    """Return the bytes of an uploaded file."""
    upload = await asyncio.to_thread(services.store.uploads.get, file_id, access)
    return StreamingResponse(
        services.store.uploads.content(upload.id),
        # Never as a page of this server: it may hold anything.
        media_type="application/octet-stream",
        # A client can tell a file that breaks off from a whole one.
        headers={"content-length": str(upload.bytes)},
    )


@router.delete("/v1/files/{file_id}")
async def delete_file(file_id: str, services: ServicesDep, access: AccessDep) -> Json:
    """Remove an uploaded file, also from the vector stores that hold it."""
    upload = await asyncio.to_thread(services.store.uploads.get, file_id, access)
    await asyncio.to_thread(services.store.uploads.delete, upload, access)
    return {"id": upload.id, "object": "file", "deleted": True}


def _put(form: FormData, services: Services, access: Access) -> Callable[..., Upload]:
    """Return what stores a file as the form's other fields say."""
    purpose = form.get("purpose")
    if purpose not in PURPOSES:
        raise InvalidRequestError(f"purpose must be one of {', '.join(PURPOSES)}", "purpose")
    return partial(services.store.uploads.put, access, purpose=str(purpose), expires_after_s=_expires_after(form))


def _filename(file: UploadFile) -> str:
    filename = file.filename
    if not filename or len(filename) > MAX_FILENAME_CHARACTERS or UNSTORABLE.search(filename):
        raise InvalidRequestError(
            f"the file needs a name of 1 to {MAX_FILENAME_CHARACTERS} characters, none of them NUL", "file"
        )
    return filename


def _expires_after(form: FormData) -> int | None:
    """Return the seconds that a form's file is kept; OpenAI's clients send an object's fields in brackets."""
    sent = {name: form.get(f"expires_after[{name}]") for name in ("anchor", "seconds")}
    if all(value is None for value in sent.values()):
        return None
    try:
        return _EXPIRY.validate_strings({name: value for name, value in sent.items() if value is not None}).seconds
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(str(part) for part in fault["loc"])
        raise InvalidRequestError(f"expires_after[{name}]: {fault['msg']}", f"expires_after.{name}") from None
