"""Files that are sent in parts: begun, filled in any order, completed or cancelled."""

import asyncio

from fastapi import APIRouter, Request

from rag_server.api.deps import AccessDep, ServicesDep
from rag_server.api.schemas_stores import MAX_FILE_BYTES, CompleteUploadBody, CreateUploadBody
from rag_server.api.uploading import file_object, file_of, pieces
from rag_server.errors import InvalidRequestError
from rag_server.protocols import Json
from rag_server.services import Services
from rag_server.store.upload_sessions import MAX_PART_BYTES
from rag_server.types import Access, NewUploadSession, UploadSession

router = APIRouter()


@router.post("/v1/uploads")
async def create_upload(body: CreateUploadBody, services: ServicesDep, access: AccessDep) -> Json:
    """Announce a file that will come in parts."""
    if body.bytes > MAX_FILE_BYTES:
        raise InvalidRequestError(
            f"a file may have {MAX_FILE_BYTES // 1024**2} MiB on this server, also in parts (OpenAI's limit is 8 GB); split it",
            "bytes",
        )
    expires_after_s = None if body.expires_after is None else body.expires_after.seconds
    new = NewUploadSession(body.filename, body.purpose, body.mime_type, body.bytes, expires_after_s)
    return await _upload_object(services, await asyncio.to_thread(services.store.upload_sessions.begin, new, access), access)


@router.post("/v1/uploads/{upload_id}/parts")
async def add_part(upload_id: str, request: Request, services: ServicesDep, access: AccessDep) -> Json:
    """Store a part, sent as a form with `data`."""
    # Before its bytes are read, which may take long.
    await asyncio.to_thread(services.store.upload_sessions.get, upload_id, access)
    async with request.form(max_files=1, max_fields=10) as form:
        data = file_of(form.get("data"), "data", MAX_PART_BYTES)
        part = await asyncio.to_thread(services.store.upload_sessions.put_part, upload_id, access, pieces(data.file))
    return {"id": part.id, "object": "upload.part", "created_at": part.created_at, "upload_id": part.session_id}


@router.post("/v1/uploads/{upload_id}/complete")
async def complete_upload(upload_id: str, body: CompleteUploadBody, services: ServicesDep, access: AccessDep) -> Json:
    """Make the file of the parts, in the order that the request names them in."""
    session = await asyncio.to_thread(services.store.upload_sessions.complete, upload_id, access, body.part_ids, md5=body.md5)
    return await _upload_object(services, session, access)


@router.post("/v1/uploads/{upload_id}/cancel")
async def cancel_upload(upload_id: str, services: ServicesDep, access: AccessDep) -> Json:
    """Give the file up; no part can be added any more."""
    session = await asyncio.to_thread(services.store.upload_sessions.cancel, upload_id, access)
    return await _upload_object(services, session, access)


async def _upload_object(services: Services, session: UploadSession, access: Access) -> Json:
    is_complete = session.status == "completed"
    file = await asyncio.to_thread(services.store.uploads.get, session.file_id, access) if is_complete else None
    return {
        "id": session.id,
        "object": "upload",
        "bytes": session.bytes,
        "created_at": session.created_at,
        "filename": session.filename,
        "purpose": session.purpose,
        "status": session.status,
        "expires_at": session.expires_at,
        "file": None if file is None else file_object(file),
    }
