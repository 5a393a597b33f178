"""Uploaded files: upload, list, get, content, delete."""

import asyncio
from collections.abc import Iterator
from typing import BinaryIO

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from starlette.datastructures import UploadFile
from starlette.types import Message

from rag_server.api.deps import AccessDep, ServicesDep
from rag_server.api.listing import list_object
from rag_server.errors import InvalidRequestError, PayloadTooLargeError
from rag_server.protocols import Json
from rag_server.store.uploads import PART_BYTES
from rag_server.types import Upload

router = APIRouter()

# OpenAI's limit for one file.
MAX_BYTES = 512 * 1024**2
PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")


@router.post("/v1/files")
async def upload_file(request: Request, services: ServicesDep, access: AccessDep) -> Json:
    """Store a file, sent as a form with `file` and `purpose`."""
    async with _limited(request).form(max_files=1, max_fields=10) as form:
        file, purpose = form.get("file"), form.get("purpose")
        if not isinstance(file, UploadFile) or not file.filename:
            raise InvalidRequestError("send a form with a field `file` that holds a file with a name", "file")
        if purpose not in PURPOSES:
            raise InvalidRequestError(f"purpose must be one of {', '.join(PURPOSES)}", "purpose")
        upload = await asyncio.to_thread(
            services.store.uploads.put, access, filename=file.filename, purpose=str(purpose), content=_parts(file.file)
        )
    return _file_object(upload)


@router.get("/v1/files")
async def list_files(services: ServicesDep, access: AccessDep) -> Json:
    """List the uploaded files."""
    data = [_file_object(upload) for upload in await asyncio.to_thread(services.store.uploads.readable, access)]
    return list_object(data)


@router.get("/v1/files/{file_id}")
async def get_file(file_id: str, services: ServicesDep, access: AccessDep) -> Json:
    """Return what is known of an uploaded file."""
    return _file_object(await asyncio.to_thread(services.store.uploads.get, file_id, access))


@router.get("/v1/files/{file_id}/content")
async def get_content(file_id: str, services: ServicesDep, access: AccessDep) -> StreamingResponse:
    """Return the bytes of an uploaded file."""
    upload = await asyncio.to_thread(services.store.uploads.get, file_id, access)
    # Never as a page of this server: it may hold anything.
    return StreamingResponse(services.store.uploads.content(upload.id), media_type="application/octet-stream")


@router.delete("/v1/files/{file_id}")
async def delete_file(file_id: str, services: ServicesDep, access: AccessDep) -> Json:
    """Remove an uploaded file that no vector store holds."""
    upload = await asyncio.to_thread(services.store.uploads.get, file_id, access)
    await asyncio.to_thread(services.store.uploads.delete, upload)
    return {"id": upload.id, "object": "file", "deleted": True}


def _limited(request: Request) -> Request:
    """Return the request with a body that ends in PayloadTooLargeError where it becomes too large.

    Raises:
        PayloadTooLargeError: It says beforehand that it is.
    """
    announced = request.headers.get("content-length", "")
    error = PayloadTooLargeError(f"a file may have {MAX_BYTES // 1024**2} MiB; split it")
    if announced.isdigit() and int(announced) > MAX_BYTES:
        raise error
    num_bytes = 0

    async def receive() -> Message:
        nonlocal num_bytes
        message = await request.receive()
        num_bytes += len(message.get("body", b""))
        if num_bytes > MAX_BYTES:
            raise error
        return message

    return Request(request.scope, receive)


def _parts(file: BinaryIO) -> Iterator[bytes]:
    while part := file.read(PART_BYTES):
        yield part


def _file_object(upload: Upload) -> Json:
    return {
        "id": upload.id,
        "object": "file",
        "bytes": upload.bytes,
        "created_at": upload.created_at,
        "filename": upload.filename,
        "purpose": upload.purpose,
        "status": "processed",
    }
