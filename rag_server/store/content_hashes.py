"""Which content is stored of a file."""

from sqlalchemy import select

from rag_server.store import schema
from rag_server.store.database import Database
from rag_server.types import StoredFile


def content_hashes(database: Database, file: StoredFile) -> dict[str, str]:
    """Return the content hash of each of the file's documents, by its id."""
    table = schema.documents.c
    with database.read() as connection:
        query = select(table.document_id, table.content_hash).where(table.file_key == file.key)
        return {row.document_id: row.content_hash for row in connection.execute(query)}
