"""The log that derived indexes follow: chunks and deletions in the order in which they became durable."""

import zlib

import numpy as np
from sqlalchemy import Connection, func, select

from rag_server.errors import EmbeddingMismatchError, StoreDamagedError
from rag_server.store import schema
from rag_server.store.database import Database
from rag_server.types import ChunkIds, Cursor, LoggedChunk, LogPage, Vectors, VectorStore


class SqlChunkLog:
    """The chunks and deletions of a vector store in the order in which they became durable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def head(self, vector_store: VectorStore) -> Cursor:
        """Return the cursor of the newest chunk and deletion."""
        with self._database.read() as connection:
            return head(connection, vector_store)

    def read(self, vector_store: VectorStore, after: Cursor, limit: int) -> LogPage:
        """Return at most `limit` chunks after the cursor and, once no chunk is left, the deletions; one consistent view."""
        with self._database.read() as connection:
            added = _chunks_after(connection, vector_store, after.chunk_id, limit)
            if len(added) == limit:
                return LogPage(tuple(added), (), Cursor(added[-1].id, after.deletion_id))
            table = schema.deletions.c
            newer = (table.vector_store_id == vector_store.id, table.id > after.deletion_id)
            deletions = connection.execute(select(table.id, table.chunk_id).where(*newer).order_by(table.id)).all()
            cursor = Cursor(
                max([after.chunk_id, *(chunk.id for chunk in added)]),
                max([after.deletion_id, *(row.id for row in deletions)]),
            )
            return LogPage(tuple(added), tuple(row.chunk_id for row in deletions if row.chunk_id is not None), cursor)

    def living(self, vector_store: VectorStore, chunk_ids: ChunkIds) -> ChunkIds:
        """Return those of the chunks that the vector store has, ascending."""
        chunks = schema.chunks.c
        query = select(chunks.id).where(chunks.vector_store_id == vector_store.id, chunks.id.in_(chunk_ids.tolist()))
        with self._database.read() as connection:
            return np.array(connection.execute(query.order_by(chunks.id)).scalars().all(), dtype=np.int64)

    def num_chunks(self, vector_store: VectorStore) -> int:
        """Return how many chunks the vector store has."""
        query = select(func.count()).where(schema.chunks.c.vector_store_id == vector_store.id)
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())


def head(connection: Connection, vector_store: VectorStore) -> Cursor:
    """Return the cursor of the newest chunk and deletion, as the connection sees them."""
    newest = [
        connection.execute(
            select(func.coalesce(func.max(table.c.id), 0)).where(table.c.vector_store_id == vector_store.id)
        ).scalar_one()
        for table in (schema.chunks, schema.deletions)
    ]
    return Cursor(*newest)


def unpack_vector(chunk_id: int, packed: bytes, checksum: int) -> Vectors:
    """Return the vector of a chunk as it was stored.

    Raises:
        StoreDamagedError: Its bytes are not those that were stored.
    """
    if zlib.crc32(packed) != checksum:
        raise StoreDamagedError(f"the vector of chunk {chunk_id} is damaged in the store; restore it from a backup")
    return np.frombuffer(packed, dtype="<f4")


def _chunks_after(connection: Connection, vector_store: VectorStore, chunk_id: int, limit: int) -> list[LoggedChunk]:
    chunks, documents, vectors = schema.chunks, schema.documents, schema.vectors
    of_chunk = (vectors.c.chunk_id == chunks.c.id) & (vectors.c.embedding_id == vector_store.embedding_id)
    query = (
        select(chunks.c.id, documents.c.title, chunks.c.text, vectors.c.vector, vectors.c.checksum)
        .select_from(chunks.join(documents).outerjoin(vectors, of_chunk))
        .where(chunks.c.vector_store_id == vector_store.id, chunks.c.id > chunk_id)
        .order_by(chunks.c.id)
        .limit(limit)
    )
    rows = connection.execute(query).all()
    # Passed over, it would be missing from this index for good if the vector store is ever changed back.
    if any(row.vector is None for row in rows):
        raise EmbeddingMismatchError(f"the collection {vector_store.name!r} was changed to another embedding model; ask again")
    return [LoggedChunk(row.id, row.title, row.text, unpack_vector(row.id, row.vector, row.checksum)) for row in rows]
