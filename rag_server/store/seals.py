"""Checksums of rows: SQLite notices a damaged structure, but hands out flipped bytes of a value as they are."""

import json
import zlib
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Table, select, update

from rag_server.store import schema

# What each table's column `checksum` covers; states that change all the time are left out.
SEALED: Mapping[Table, tuple[str, ...]] = {
    schema.vector_stores: ("id", "tenant", "name", "created_at", "embedding_id"),
    schema.embeddings: ("id", "model", "dimension", "location"),
    schema.uploads: ("id", "tenant", "filename", "purpose", "bytes", "created_at", "principals", "is_complete"),
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
    schema.documents: ("vector_store_id", "file_key", "document_id", "title", "text", "attributes"),
    schema.keys: ("id", "name", "secret_hash", "tenant", "principals", "created_at", "revoked_at"),
}


def seal_of(table: Table, values: Mapping[str, Any] | RowMapping) -> int:
    """Return the checksum of a row of `table`."""
    content = [values[name] for name in SEALED[table]]
    return zlib.crc32(json.dumps(content, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def seal(connection: Connection, table: Table, *conditions: ColumnElement[bool]) -> None:
    """Write the checksum of the rows that were just changed."""
    key = next(iter(table.primary_key))
    for row in connection.execute(select(table).where(*conditions)).mappings().all():
        connection.execute(update(table).where(key == row[key.name]).values(checksum=seal_of(table, row)))
