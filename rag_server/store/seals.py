"""Checksums of rows: SQLite notices a damaged structure, but hands out flipped bytes of a value as they are."""

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Table, select, update

from rag_server.store import schema
from rag_server.store.batch_schema import batch_results, batch_rows, batches
from rag_server.store.chat_schema import chat_completions
from rag_server.store.dialogue_schema import conversation_items, conversations, response_items, responses
from rag_server.store.section_schema import document_sections

# What each table's column `checksum` covers; states that change all the time are left out.
SEALED: Mapping[Table, tuple[str, ...]] = {
    schema.vector_stores: (
        "id",
        "tenant",
        "name",
        "created_at",
        "embedding_id",
        "description",
        "metadata",
        "expires_after_days",
    ),
    schema.embeddings: ("id", "model", "dimension", "location"),
    schema.uploads: (
        "id",
        "tenant",
        "filename",
        "purpose",
        "bytes",
        "created_at",
        "principals",
        "is_complete",
        "expires_at",
        "layout",
    ),
    schema.upload_sessions: (
        "id",
        "tenant",
        "owner",
        "file_id",
        "filename",
        "purpose",
        "mime_type",
        "bytes",
        "created_at",
        "expires_at",
        "file_expires_after_s",
        "status",
    ),
    schema.session_parts: ("id", "session_id", "first_number", "num_pieces", "bytes", "created_at", "is_complete"),
    schema.files: (
        "id",
        "vector_store_id",
        "source",
        "filename",
        "bytes",
        "created_at",
        "attributes",
        "principals",
        "chunking",
    ),
    schema.file_batches: ("id", "tenant", "owner", "vector_store_id", "created_at", "cancelled_at"),
    chat_completions: ("id", "tenant", "owner", "created_at", "model", "completion", "messages", "metadata"),
    responses: ("id", "tenant", "owner", "created_at", "previous_response_id", "response"),
    response_items: ("response_id", "is_output", "id", "item"),
    conversations: ("id", "tenant", "owner", "created_at", "metadata"),
    conversation_items: ("conversation_id", "id", "item"),
    document_sections: ("document_key", "sections"),
    batches: (
        "id",
        "kind",
        "tenant",
        "owner",
        "key_id",
        "scopes",
        "endpoint",
        "input_file_id",
        "metadata",
        "output_expires_after_s",
        "fingerprint",
        "created_at",
    ),
    batch_rows: ("batch_id", "number", "custom_id", "request", "key", "is_refused"),
    batch_results: (
        "batch_id",
        "number",
        "sequence",
        "status",
        "status_code",
        "response",
        "request_id",
        "error_code",
        "error_message",
    ),
    schema.documents: ("vector_store_id", "file_key", "document_id", "title", "text", "attributes"),
    schema.keys: (
        "id",
        "name",
        "secret_hash",
        "tenant",
        "principals",
        "created_at",
        "revoked_at",
        "expires_at",
        "scopes",
        "limits",
    ),
}


def seal_of(table: Table, values: Mapping[str, Any] | RowMapping, columns: Sequence[str] | None = None) -> int:
    """Return the checksum of a row of `table`; `columns` are those that it covers, where they are not today's."""
    content = [values[name] for name in columns or SEALED[table]]
    return zlib.crc32(json.dumps(content, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def seal(connection: Connection, table: Table, *conditions: ColumnElement[bool]) -> None:
    """Write the checksum of the rows that were just changed."""
    key = next(iter(table.primary_key))
    for row in connection.execute(select(table).where(*conditions)).mappings().all():
        connection.execute(update(table).where(key == row[key.name]).values(checksum=seal_of(table, row)))
