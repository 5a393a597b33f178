"""Vector stores (collections): create, find, list."""

import secrets
import time

from sqlalchemy import Connection, func, insert, or_, select

from rag_server.errors import EmbeddingMismatchError, InvalidRequestError, NotFoundError
from rag_server.store import schema
from rag_server.store.database import Database
from rag_server.types import VectorStore

_COLUMNS = (
    schema.vector_stores.c.id,
    schema.vector_stores.c.name,
    schema.vector_stores.c.created_at,
    schema.vector_stores.c.embedding_id,
    schema.embeddings.c.model.label("embedding_model"),
    schema.embeddings.c.dimension,
)
_SELECT = select(*_COLUMNS).select_from(schema.vector_stores.join(schema.embeddings))


class VectorStores:
    """The table of vector stores."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self) -> list[VectorStore]:
        """Return every vector store, oldest first."""
        with self._database.read() as connection:
            query = _SELECT.order_by(schema.vector_stores.c.created_at, schema.vector_stores.c.name)
            return [VectorStore(**row) for row in connection.execute(query).mappings()]

    def get(self, name_or_id: str) -> VectorStore:
        """Return the vector store of that id or name.

        Raises:
            NotFoundError: There is none; the message lists those that exist.
        """
        with self._database.read() as connection:
            found = _find(connection, name_or_id)
        if found is None:
            names = ", ".join(store.name for store in self.list()) or "none yet"
            raise NotFoundError(
                f"there is no collection {name_or_id!r} (there are: {names}); "
                f"make it with `rag-server index PATH --collection NAME`"
            )
        return found

    def get_or_create(self, name: str, *, embedding_model: str, dimension: int) -> VectorStore:
        """Return the vector store of that name, made on the spot if need be.

        Raises:
            EmbeddingMismatchError: It exists and holds vectors of another model.
        """
        if not name or name.startswith("vs_") or any(not character.isprintable() or character == "/" for character in name):
            raise InvalidRequestError(
                f"{name!r} cannot name a collection: use printable characters without '/', not starting with 'vs_'"
            )
        with self._database.write() as connection:
            found = _find(connection, name) or _create(connection, name, embedding_model, dimension)
        check_embedding(found, embedding_model)
        return found

    def num_documents(self, vector_store: VectorStore) -> int:
        """Return how many documents are stored."""
        query = select(func.count()).where(schema.documents.c.vector_store_id == vector_store.id)
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())


def check_embedding(vector_store: VectorStore, embedding_model: str) -> None:
    """Raise EmbeddingMismatchError unless the vector store's vectors come from that model."""
    if vector_store.embedding_model != embedding_model:
        raise EmbeddingMismatchError(
            f"collection {vector_store.name!r} was built with the embedding model {vector_store.embedding_model}, "
            f"but {embedding_model} is configured; set RAG_EMBEDDER__MODEL back, or index into a new collection"
        )


def _find(connection: Connection, name_or_id: str) -> VectorStore | None:
    table = schema.vector_stores.c
    query = _SELECT.where(or_(table.id == name_or_id, table.name == name_or_id))
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else VectorStore(**row)


def _create(connection: Connection, name: str, model: str, dimension: int) -> VectorStore:
    embedding = schema.embeddings.c
    embedding_id = connection.execute(
        select(embedding.id).where(embedding.model == model, embedding.dimension == dimension)
    ).scalar_one_or_none()
    if embedding_id is None:
        statement = insert(schema.embeddings).values(model=model, dimension=dimension).returning(embedding.id)
        embedding_id = connection.execute(statement).scalar_one()
    made = VectorStore(f"vs_{secrets.token_hex(12)}", name, int(time.time()), embedding_id, model, dimension)
    connection.execute(
        insert(schema.vector_stores).values(id=made.id, name=name, created_at=made.created_at, embedding_id=embedding_id)
    )
    return made
