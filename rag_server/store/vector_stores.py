"""Vector stores (collections): create, find, list, rename, delete. Each belongs to a tenant, and others never learn of it."""

import secrets
import time
from collections.abc import Sequence

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from rag_server.errors import EmbeddingMismatchError, InvalidRequestError, NotFoundError
from rag_server.protocols import Embedder
from rag_server.store import schema
from rag_server.store.database import Database
from rag_server.store.documents import delete_documents
from rag_server.store.seals import seal
from rag_server.store.selection import readable_files
from rag_server.types import Access, VectorStore

_COLUMNS = (
    schema.vector_stores.c.id,
    schema.vector_stores.c.tenant,
    schema.vector_stores.c.name,
    schema.vector_stores.c.created_at,
    schema.vector_stores.c.embedding_id,
    schema.embeddings.c.model.label("embedding_model"),
    schema.embeddings.c.location.label("embedding_location"),
    schema.embeddings.c.dimension,
)
_SELECT = select(*_COLUMNS).select_from(schema.vector_stores.join(schema.embeddings))


class VectorStores:
    """The table of vector stores."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, access: Access) -> list[VectorStore]:
        """Return the tenant's vector stores, oldest first."""
        table = schema.vector_stores.c
        query = _SELECT.where(table.tenant == access.tenant).order_by(table.created_at, table.name)
        with self._database.read() as connection:
            return [VectorStore(**row) for row in connection.execute(query).mappings()]

    def get(self, name_or_id: str, access: Access) -> VectorStore:
        """Return the tenant's vector store of that id or name.

        Raises:
            NotFoundError: There is none; the message lists those that exist.
        """
        with self._database.read() as connection:
            found = _find(connection, name_or_id, access.tenant)
        if found is None:
            names = ", ".join(store.name for store in self.list(access)) or "none yet"
            raise NotFoundError(
                f"there is no collection {name_or_id!r} (there are: {names}); "
                f"make it with `rag-server index PATH --collection NAME`"
            )
        return found

    def by_id(self, vector_store_id: str) -> VectorStore:
        """Return the vector store of that id, whosever it is: for work that nobody asks for.

        Raises:
            NotFoundError: There is none (any more).
        """
        with self._database.read() as connection:
            row = connection.execute(_SELECT.where(schema.vector_stores.c.id == vector_store_id)).mappings().one_or_none()
        if row is None:
            raise NotFoundError(f"there is no vector store {vector_store_id!r}")
        return VectorStore(**row)

    def newest(self, limit: int) -> Sequence[VectorStore]:
        """Return the newest vector stores, whosever they are: for work that nobody asks for."""
        query = _SELECT.order_by(schema.vector_stores.c.created_at.desc()).limit(limit)
        with self._database.read() as connection:
            return [VectorStore(**row) for row in connection.execute(query).mappings()]

    def create(self, name: str, access: Access, embedder: Embedder) -> VectorStore:
        """Make a vector store for vectors of that model.

        Raises:
            InvalidRequestError: The name cannot be used, or the tenant has a collection of that name.
        """
        check_name(name)
        with self._database.write() as connection:
            if _find(connection, name, access.tenant) is not None:
                raise InvalidRequestError(f"there is a collection {name!r} already; choose another name", "name")
            return _create(connection, name, access.tenant, embedder)

    def get_or_create(self, name: str, access: Access, embedder: Embedder) -> VectorStore:
        """Return the vector store of that name, made on the spot if need be.

        Raises:
            EmbeddingMismatchError: It exists and holds vectors of another model.
        """
        check_name(name)
        with self._database.write() as connection:
            found = _find(connection, name, access.tenant) or _create(connection, name, access.tenant, embedder)
        check_embedding(found, embedder)
        return found

    def rename(self, vector_store: VectorStore, name: str) -> None:
        """Give the vector store another name."""
        check_name(name)
        table = schema.vector_stores
        with self._database.write() as connection:
            other = _find(connection, name, vector_store.tenant)
            if other is not None and other.id != vector_store.id:
                raise InvalidRequestError(f"there is a collection {name!r} already; choose another name", "name")
            connection.execute(update(table).where(table.c.id == vector_store.id).values(name=name))
            seal(connection, table, table.c.id == vector_store.id)

    def delete(self, vector_store: VectorStore) -> None:
        """Remove the vector store with everything in it."""
        documents, files, log = schema.documents, schema.files, schema.deletions
        with self._database.write() as connection:
            keys = select(documents.c.id).where(documents.c.vector_store_id == vector_store.id)
            delete_documents(connection, vector_store.id, keys)
            of_store = select(files.c.key).where(files.c.vector_store_id == vector_store.id)
            connection.execute(delete(schema.file_principals).where(schema.file_principals.c.file_key.in_(of_store)))
            connection.execute(delete(files).where(files.c.vector_store_id == vector_store.id))
            connection.execute(delete(log).where(log.c.vector_store_id == vector_store.id))
            connection.execute(delete(schema.vector_stores).where(schema.vector_stores.c.id == vector_store.id))

    def num_documents(self, vector_store: VectorStore, access: Access) -> int:
        """Return how many documents `access` may read."""
        documents, files, stores = schema.documents, schema.files, schema.vector_stores
        joined = documents.join(files).join(stores, files.c.vector_store_id == stores.c.id)
        query = select(func.count()).select_from(joined).where(documents.c.vector_store_id == vector_store.id)
        with self._database.read() as connection:
            return int(connection.execute(query.where(readable_files(access))).scalar_one())


def check_embedding(vector_store: VectorStore, embedder: Embedder) -> None:
    """Raise EmbeddingMismatchError unless the vector store's vectors come from that model."""
    if (vector_store.embedding_model, vector_store.dimension) != (embedder.model_id, embedder.dimension):
        raise EmbeddingMismatchError(
            f"collection {vector_store.name!r} was built with the embedding model {vector_store.embedding_model} "
            f"({vector_store.dimension} dimensions), but {embedder.model_id} ({embedder.dimension}) is configured; set "
            "RAG_EMBEDDER__MODEL back, or change the collection with `rag-server index --change-model`"
        )


def check_name(name: str) -> None:
    """Raise InvalidRequestError unless a collection can have that name."""
    if not name or name.startswith("vs_") or any(not character.isprintable() or character == "/" for character in name):
        raise InvalidRequestError(
            f"{name!r} cannot name a collection: use printable characters without '/', not starting with 'vs_'", "name"
        )


def embedding_of(connection: Connection, embedder: Embedder) -> int:
    """Return the id of the set of vectors of that model, made on the spot if need be."""
    table = schema.embeddings.c
    found = connection.execute(select(table.id).where(table.model == embedder.model_id)).scalar_one_or_none()
    if found is not None:
        return int(found)
    values = {"model": embedder.model_id, "dimension": embedder.dimension, "location": embedder.location}
    made = int(connection.execute(insert(schema.embeddings).values(values).returning(table.id)).scalar_one())
    seal(connection, schema.embeddings, table.id == made)
    return made


def _find(connection: Connection, name_or_id: str, tenant: str) -> VectorStore | None:
    table = schema.vector_stores.c
    query = _SELECT.where(table.tenant == tenant, or_(table.id == name_or_id, table.name == name_or_id))
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else VectorStore(**row)


def _create(connection: Connection, name: str, tenant: str, embedder: Embedder) -> VectorStore:
    embedding_id = embedding_of(connection, embedder)
    values = {"id": f"vs_{secrets.token_hex(12)}", "tenant": tenant, "name": name, "created_at": int(time.time())}
    connection.execute(insert(schema.vector_stores).values(**values, embedding_id=embedding_id))
    seal(connection, schema.vector_stores, schema.vector_stores.c.id == values["id"])
    row = connection.execute(_SELECT.where(schema.vector_stores.c.id == values["id"])).mappings().one()
    return VectorStore(**row)
