"""Batches: requests in a file, answered in the background."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query

from rag_server.api.deps import AccessDep, CallerDep, ServicesDep
from rag_server.api.listing import list_object
from rag_server.api.schemas_stores import CreateBatchBody
from rag_server.batch_lines import MAX_BYTES
from rag_server.batch_types import Batch, NewBatch
from rag_server.errors import InvalidRequestError
from rag_server.protocols import Json
from rag_server.services import Services
from rag_server.types import Access, Page

router = APIRouter()

PATH = "/v1/batches"
PURPOSE = "batch"


@router.post(PATH)
async def create_batch(body: CreateBatchBody, services: ServicesDep, caller: CallerDep) -> Json:
    """Have the requests of an uploaded file answered within a day; they are checked first, in the background too."""
    await asyncio.to_thread(_check_file, body.input_file_id, services, caller.access)
    new = NewBatch(
        body.endpoint,
        input_file_id=body.input_file_id,
        metadata=body.metadata or {},
        output_expires_after_s=None if body.output_expires_after is None else body.output_expires_after.seconds,
    )
    return batch_object(await asyncio.to_thread(services.store.batches.create, new, caller))


@router.get(PATH)
async def list_batches(
    services: ServicesDep,
    access: AccessDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(max_length=200)] = None,
) -> Json:
    """List the batches, the newest first."""
    batches, has_more = await asyncio.to_thread(services.store.batches.page, access, Page(limit, after=after))
    return list_object([batch_object(batch) for batch in batches], has_more=has_more)


# Not OpenAI's name, which file batches have here: each kind of object has a parameter of its own.
@router.get(PATH + "/{request_batch_id}")
async def get_batch(request_batch_id: str, services: ServicesDep, access: AccessDep) -> Json:
    """Return how far a batch is."""
    return batch_object(await asyncio.to_thread(services.store.batches.get, request_batch_id, access))


@router.post(PATH + "/{request_batch_id}/cancel")
async def cancel_batch(request_batch_id: str, services: ServicesDep, access: AccessDep) -> Json:
    """End a batch; what is answered by then is in its files."""
    return batch_object(await asyncio.to_thread(services.store.batches.cancel, request_batch_id, access))


def batch_object(batch: Batch) -> Json:
    """Return OpenAI's object."""
    usage = batch.usage
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model,
        "errors": _errors_object(batch),
        "input_file_id": batch.input_file_id,
        "completion_window": "24h",
        "status": batch.status,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "created_at": batch.created_at,
        "in_progress_at": batch.in_progress_at,
        "expires_at": batch.expires_at,
        "finalizing_at": batch.finalizing_at,
        "completed_at": batch.completed_at,
        "failed_at": batch.failed_at,
        "expired_at": batch.expired_at,
        "cancelling_at": batch.cancelling_at,
        "cancelled_at": batch.cancelled_at,
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "usage": {
            "input_tokens": usage.input_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens},
            "output_tokens": usage.output_tokens,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
            "total_tokens": usage.input_tokens + usage.output_tokens,
        },
        "metadata": dict(batch.metadata) or None,
    }


def _errors_object(batch: Batch) -> Json | None:
    if not batch.errors:
        return None
    listed = [
        {"code": error.code, "message": error.message, "param": error.param, "line": error.line} for error in batch.errors
    ]
    return {"object": "list", "data": listed}


def _check_file(file_id: str, services: Services, access: Access) -> None:
    """Look at what is known of a file without reading it.

    Raises:
        NotFoundError: There is none, or it is another key's.
        InvalidRequestError: It is not meant for a batch, or too large for one.
    """
    upload = services.store.uploads.get(file_id, access)
    if upload.purpose != PURPOSE:
        raise InvalidRequestError(
            f"the file was uploaded for {upload.purpose!r}; upload it with the purpose 'batch'", "input_file_id"
        )
    if upload.bytes > MAX_BYTES:
        raise InvalidRequestError(
            f"the file of a batch may have {MAX_BYTES // 1024**2} MB; make several batches", "input_file_id"
        )
