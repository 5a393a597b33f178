"""Uploads that a request puts into a vector store, and the file object that shows how far they are."""

from collections.abc import Mapping, Sequence
from typing import Literal

from rag_server.api.schemas_stores import AttachBody, ChunkingStrategy
from rag_server.errors import ForbiddenError, InvalidAttributeError
from rag_server.filters import parse_attributes
from rag_server.protocols import Json
from rag_server.services import Services
from rag_server.store.file_rows import UPLOAD
from rag_server.store.files import RUNNING, STATUSES
from rag_server.types import Access, FileStatus, NewFile, StoredFile

ShownStatus = Literal["in_progress", "completed", "failed", "cancelled"]


def statuses_of(shown: ShownStatus | None) -> Sequence[FileStatus]:
    """Return the states that are shown as that one; a file that waits is in progress for OpenAI's clients."""
    if shown is None:
        return STATUSES
    return RUNNING if shown == "in_progress" else (shown,)


def new_files(services: Services, bodies: Sequence[AttachBody], access: Access, *, path: str = "") -> list[NewFile]:
    """Return the uploads that the bodies name as files of a vector store; `path` leads to them in the request.

    Raises:
        NotFoundError: There is no such upload.
        ForbiddenError: One is to be read by others than `access`.
        InvalidAttributeError: An attribute is of no type that can be stored.
    """
    uploads = services.store.uploads.get_all([body.file_id for body in bodies], access)
    files = []
    for number, (body, upload) in enumerate(zip(bodies, uploads, strict=True)):
        try:
            attributes = parse_attributes(body.attributes or {})
        except InvalidAttributeError as error:
            raise InvalidAttributeError(str(error), f"{path}{number}.attributes" if path else error.param) from None
        files.append(
            NewFile(
                source=f"{UPLOAD}{upload.id}",
                filename=upload.filename,
                bytes=upload.bytes,
                id=upload.id,
                attributes=attributes,
                principals=_principals(body, access),
                # To read a file once more is not to open it to everyone.
                keeps_principals="principals" not in body.rag.model_fields_set,
                chunking=_chunking(body.chunking_strategy),
            )
        )
    return files


def shown_counts(counts: Mapping[FileStatus, int]) -> dict[str, int]:
    """Return the numbers of files by the states that are shown, and of all together."""
    shown: dict[str, int] = {status: number for status, number in counts.items() if status != "queued"}
    return {**shown, "in_progress": sum(counts[status] for status in RUNNING), "total": sum(counts.values())}


def file_object(file: StoredFile) -> Json:
    """Return OpenAI's object of a vector store's file."""
    strategy: Json = {"type": "other"}
    if file.chunking is not None:
        numbers = {
            "max_chunk_size_tokens": file.chunking["max_tokens"],
            "chunk_overlap_tokens": file.chunking["overlap_tokens"],
        }
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
        "last_error": None if file.error is None else {"code": file.error_code or "invalid_file", "message": file.error},
        "rag": {"filename": file.filename, "bytes_read": file.bytes_read, "is_queued": file.status == "queued"},
    }


def _principals(body: AttachBody, access: Access) -> tuple[str, ...] | None:
    """Return who may read a file: those that the request names; for a limited key of its own ones, by default all."""
    named, own = body.rag.principals, access.principals
    if named is None:
        return None if own is None else tuple(sorted(own))
    if own is not None and (not named or not own.issuperset(named)):
        raise ForbiddenError("rag.principals may name some of this API key's own only; leave it out for all of them")
    return tuple(sorted(set(named)))


def _chunking(strategy: ChunkingStrategy | None) -> dict[str, int] | None:
    if strategy is None or strategy.static is None:
        return None
    return {"max_tokens": strategy.static.max_chunk_size_tokens, "overlap_tokens": strategy.static.chunk_overlap_tokens}
