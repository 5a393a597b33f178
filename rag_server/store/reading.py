"""What searching reads: the log that derived indexes follow, passages for the prompt, and documents for display."""

from collections.abc import Sequence

import numpy as np
from sqlalchemy import Connection, Select, func, select

from rag_server.errors import NotFoundError
from rag_server.store import schema
from rag_server.store.database import Database
from rag_server.types import Cursor, Document, Hit, LoggedChunk, LogPage, Passage, VectorStore


class SqlChunkLog:
    """The chunks and deletions of a vector store in the order in which they became durable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def head(self, vector_store: VectorStore) -> Cursor:
        """Return the cursor of the newest chunk and deletion."""
        with self._database.read() as connection:
            return _head(connection, vector_store)

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
            return LogPage(tuple(added), tuple(row.chunk_id for row in deletions), cursor)


class Passages:
    """Passages and the documents that they come from."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def passages(self, hits: Sequence[Hit]) -> list[Passage]:
        """Return the passages of `hits` in their order, ranked from 1; hits deleted meanwhile are left out."""
        query = _passage_query().where(schema.chunks.c.id.in_([hit.chunk_id for hit in hits]))
        with self._database.read() as connection:
            rows = {row["id"]: row for row in connection.execute(query).mappings()}
        found = [hit for hit in hits if hit.chunk_id in rows]
        return [Passage(**rows[hit.chunk_id], score=hit.score, rank=rank) for rank, hit in enumerate(found, start=1)]

    def passage(self, passage_id: int) -> tuple[Passage, Document]:
        """Return one passage and its whole document.

        Raises:
            NotFoundError: There is no such passage (any more).
        """
        documents, chunks = schema.documents, schema.chunks
        whole = select(documents.c.text).select_from(chunks.join(documents)).where(chunks.c.id == passage_id)
        with self._database.read() as connection:
            row = connection.execute(_passage_query().where(chunks.c.id == passage_id)).mappings().one_or_none()
            if row is None:
                raise NotFoundError(f"there is no passage {passage_id}; its document was changed or removed since")
            text = connection.execute(whole).scalar_one()
        passage = Passage(**row, score=0.0, rank=0)
        return passage, Document(passage.document_id, passage.title, text, passage.attributes)


def _head(connection: Connection, vector_store: VectorStore) -> Cursor:
    newest = [
        connection.execute(
            select(func.coalesce(func.max(table.c.id), 0)).where(table.c.vector_store_id == vector_store.id)
        ).scalar_one()
        for table in (schema.chunks, schema.deletions)
    ]
    return Cursor(*newest)


def _chunks_after(connection: Connection, vector_store: VectorStore, chunk_id: int, limit: int) -> list[LoggedChunk]:
    chunks, documents, vectors = schema.chunks, schema.documents, schema.vectors
    query = (
        select(chunks.c.id, documents.c.title, chunks.c.text, vectors.c.vector)
        .select_from(chunks.join(documents).join(vectors, vectors.c.chunk_id == chunks.c.id))
        .where(chunks.c.vector_store_id == vector_store.id, chunks.c.id > chunk_id)
        .where(vectors.c.embedding_id == vector_store.embedding_id)
        .order_by(chunks.c.id)
        .limit(limit)
    )
    rows = connection.execute(query)
    return [LoggedChunk(row.id, row.title, row.text, np.frombuffer(row.vector, dtype="<f4")) for row in rows]


def _passage_query() -> Select[tuple[object, ...]]:
    chunks, documents, files = schema.chunks, schema.documents, schema.files
    return select(
        chunks.c.id,
        documents.c.document_id,
        documents.c.file_id,
        files.c.filename,
        documents.c.title,
        chunks.c.text,
        chunks.c.start,
        chunks.c.end,
        documents.c.attributes,
    ).select_from(chunks.join(documents).join(files))
