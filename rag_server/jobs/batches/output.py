"""What a batch gives back: a line for each row in OpenAI's shape, and two files, of the answers and of what failed."""

import hashlib
import json
from collections.abc import Iterable, Iterator

from rag_server.batch_types import Batch, FinishedRow, RowStatus
from rag_server.store.batches import Batches
from rag_server.store.uploads import PART_BYTES, Uploads

PURPOSE = "batch_output"
# Rows that are read at a time; an answer may be large.
PAGE = 64


def output_line(batch: Batch, finished: FinishedRow) -> str:
    """Return a row's line of output, the same each time, with its end."""
    result = finished.result
    digest = hashlib.sha256(f"{batch.id} {finished.row.number}".encode()).hexdigest()
    head = json.dumps({"id": f"batch_req_{digest[:32]}", "custom_id": finished.row.custom_id})
    error = None if result.error is None else {"code": result.error.code, "message": result.error.message}
    response = "null"
    if result.response is not None:
        told = json.dumps({"status_code": result.status_code, "request_id": result.request_id})
        # It is JSON already, and may be long.
        response = f'{told[:-1]}, "body": {result.response}}}'
    return f'{head[:-1]}, "response": {response}, "error": {json.dumps(error)}}}\n'


def write_files(batches: Batches, uploads: Uploads, batch: Batch) -> tuple[str | None, str | None]:
    """Write the files of a batch whose rows all have a result; return their ids, None for one that would be empty.

    Written again after a crash, they replace the first ones. The command line writes its own.
    """
    if batch.input_file_id is None:
        return None, None
    wanted: tuple[tuple[RowStatus, str, int], ...] = (
        ("completed", batch.next_output_file_id, batch.completed),
        ("failed", batch.next_error_file_id, batch.failed),
    )
    made: list[str | None] = []
    for status, file_id, count in wanted:
        if count:
            uploads.put(
                batch.access,
                filename=f"{batch.id}_{'output' if status == 'completed' else 'error'}.jsonl",
                purpose=PURPOSE,
                content=_parts(output_line(batch, row) for row in finished_rows(batches, batch, status)),
                expires_after_s=batch.output_expires_after_s,
                upload_id=file_id,
            )
        made.append(file_id if count else None)
    return made[0], made[1]


def finished_rows(batches: Batches, batch: Batch, status: RowStatus | None = None, after: int = -1) -> Iterator[FinishedRow]:
    """Yield the rows with a result in the order of finishing."""
    while page := batches.results(batch, after, PAGE, status=status):
        yield from page
        after = page[-1].sequence


def _parts(lines: Iterable[str]) -> Iterator[bytes]:
    """Join lines to parts of a size that the store takes."""
    held = bytearray()
    for line in lines:
        held += line.encode()
        while len(held) >= PART_BYTES:
            yield bytes(held[:PART_BYTES])
            del held[:PART_BYTES]
    if held:
        yield bytes(held)
