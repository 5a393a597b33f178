"""Changing a vector store's embedding model: new vectors are built beside the old ones and take over in one transaction."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Select, delete, exists, func, insert, select, update

from rag_server.errors import NotFoundError
from rag_server.protocols import Embedder
from rag_server.store import schema
from rag_server.store.database import Database
from rag_server.store.document_rows import pack_vectors
from rag_server.store.seals import seal
from rag_server.store.vector_stores import embedding_of
from rag_server.types import UnembeddedChunk, Vectors, VectorStore

chunks, documents, vectors = schema.chunks, schema.documents, schema.vectors


class ModelChange:
    """The steps of a change. Killed between any two, it goes on where it stopped; going back is a change to the old model."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, embedder: Embedder) -> int:
        """Return the id of the set of vectors of that model."""
        with self._database.write() as connection:
            return embedding_of(connection, embedder)

    def num_missing(self, vector_store: VectorStore, embedding_id: int) -> int:
        """Return how many chunks have no vector in that set yet."""
        with self._database.read() as connection:
            query = select(func.count()).select_from(chunks).where(*_missing(vector_store, embedding_id))
            return int(connection.execute(query).scalar_one())

    def missing(self, vector_store: VectorStore, embedding_id: int, limit: int) -> list[UnembeddedChunk]:
        """Return up to `limit` chunks that have no vector in that set yet, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(_chunks().where(*_missing(vector_store, embedding_id)).order_by(chunks.c.id).limit(limit))
            return [UnembeddedChunk(row.id, row.title, row.text, row.place) for row in rows]

    def add(self, embedding_id: int, chunk_ids: Sequence[int], rows: Vectors) -> None:
        """Store vectors; left out are chunks that were deleted meanwhile, and those that another run was faster with."""
        done = exists().where(vectors.c.embedding_id == embedding_id, vectors.c.chunk_id == chunks.c.id)
        with self._database.write() as connection:
            lacking = set(connection.execute(select(chunks.c.id).where(chunks.c.id.in_(chunk_ids), ~done)).scalars())
            packed = [row for row in pack_vectors(embedding_id, chunk_ids, rows) if row["chunk_id"] in lacking]
            if packed:
                connection.execute(insert(vectors), packed)

    def switch(self, vector_store: VectorStore, embedding_id: int) -> bool:
        """Make the set the one that is searched; return False, and change nothing, if a chunk has no vector in it yet."""
        stores = schema.vector_stores
        with self._database.write() as connection:
            if connection.execute(_chunks().where(*_missing(vector_store, embedding_id)).limit(1)).first() is not None:
                return False
            statement = update(stores).where(stores.c.id == vector_store.id).values(embedding_id=embedding_id)
            if connection.execute(statement).rowcount == 0:
                raise NotFoundError(f"the collection {vector_store.name!r} was deleted meanwhile")
            seal(connection, stores, stores.c.id == vector_store.id)
        return True

    def drop_others(self, vector_store: VectorStore) -> int:
        """Delete the vectors of models that the vector store does not use; return how many."""
        own = select(chunks.c.id).where(chunks.c.vector_store_id == vector_store.id)
        others = (vectors.c.chunk_id.in_(own), vectors.c.embedding_id != vector_store.embedding_id)
        with self._database.write() as connection:
            return connection.execute(delete(vectors).where(*others)).rowcount


def _missing(vector_store: VectorStore, embedding_id: int) -> tuple[ColumnElement[bool], ...]:
    there = exists().where(vectors.c.embedding_id == embedding_id, vectors.c.chunk_id == chunks.c.id)
    return chunks.c.vector_store_id == vector_store.id, ~there


def _chunks() -> Select[tuple[int, str, str, dict[str, str | float]]]:
    joined = chunks.join(documents)
    return select(chunks.c.id, documents.c.title, chunks.c.text, chunks.c.place).select_from(joined)
