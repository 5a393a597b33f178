"""Files in forms, which are kept on disk meanwhile and handed on in pieces; and the file object."""

from collections.abc import Iterator
from typing import BinaryIO

from starlette.datastructures import UploadFile

from rag_server.errors import InvalidRequestError, PayloadTooLargeError
from rag_server.protocols import Json
from rag_server.store.uploads import PART_BYTES
from rag_server.types import Upload

MIB = 1024**2


def file_of(field: object, name: str, max_bytes: int) -> UploadFile:
    """Return the file in a field of a form.

    Raises:
        InvalidRequestError: There is none.
        PayloadTooLargeError: It is larger than `max_bytes`.
    """
    if not isinstance(field, UploadFile):
        raise InvalidRequestError(f"send a form with a field `{name}` that holds a file", name)
    if (field.size or 0) > max_bytes:
        raise PayloadTooLargeError(f"a file or a part may have {max_bytes // MIB} MiB here; send less at a time")
    return field


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """Yield the bytes of a file in pieces that the store keeps as they are."""
    while piece := file.read(PART_BYTES):
        yield piece


def file_object(upload: Upload) -> Json:
    """Return OpenAI's file object."""
    shown = {
        "id": upload.id,
        "object": "file",
        "bytes": upload.bytes,
        "created_at": upload.created_at,
        "filename": upload.filename,
        "purpose": upload.purpose,
        # Only what has arrived in full is shown at all.
        "status": "processed",
    }
    return shown if upload.expires_at is None else {**shown, "expires_at": upload.expires_at}
