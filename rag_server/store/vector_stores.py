"""Vector stores (collections): create, find, list, change, delete. Each belongs to a tenant, and others never learn of it."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, insert, or_, select, update

from rag_server.errors import EmbeddingMismatchError, ExpiredError, InvalidRequestError, NotFoundError
from rag_server.protocols import Embedder
from rag_server.store import schema
from rag_server.store.database import Database
from rag_server.store.file_rows import delete_files, enqueue_file
from rag_server.store.ids import new_id
from rag_server.store.paging import page_of
from rag_server.store.seals import seal
from rag_server.store.selection import readable_files
from rag_server.types import Access, NewFile, NewVectorStore, Page, VectorStore

DAY_S = 24 * 3600
MAX_NAME_CHARACTERS = 256
# In the message about one that is not there.
MAX_NAMES_TOLD = 20

_COLUMNS = (
    schema.vector_stores.c.id,
    schema.vector_stores.c.tenant,
    schema.vector_stores.c.name,
    schema.vector_stores.c.created_at,
    schema.vector_stores.c.embedding_id,
    schema.embeddings.c.model.label("embedding_model"),
    schema.embeddings.c.location.label("embedding_location"),
    schema.embeddings.c.dimension,
    schema.vector_stores.c.description,
    schema.vector_stores.c.metadata,
    schema.vector_stores.c.expires_after_days,
    schema.vector_stores.c.last_active_at,
)
_SELECT = select(*_COLUMNS).select_from(schema.vector_stores.join(schema.embeddings))


class VectorStores:
    """The table of vector stores."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # When vector stores were used last, until `note_activity` writes it down: a search must not wait for a write.
        self._active: dict[str, int] = {}

    def list(self, access: Access) -> list[VectorStore]:
        """Return the tenant's vector stores, oldest first."""
        table = schema.vector_stores.c
        query = _SELECT.where(table.tenant == access.tenant).order_by(table.created_at, table.id)
        with self._database.read() as connection:
            return [self._known(row) for row in connection.execute(query).mappings()]

    def page(self, access: Access, page: Page) -> tuple[Sequence[VectorStore], bool]:
        """Return a page of the tenant's vector stores, in the order in which they were made, and whether there are more."""
        table = schema.vector_stores.c
        query = _SELECT.where(table.tenant == access.tenant)
        with self._database.read() as connection:
            rows, has_more = page_of(connection, query, page, id_=table.id, position=[table.created_at, table.id])
        return [self._known(row._mapping) for row in rows], has_more

    def get(self, name_or_id: str, access: Access) -> VectorStore:
        """Return the tenant's vector store of that id or name, to look at it or to change it.

        Raises:
            NotFoundError: There is none; the message lists those that exist.
        """
        with self._database.read() as connection:
            row = _find(connection, name_or_id, access.tenant)
        if row is not None:
            return self._known(row)
        first, _ = self.page(access, Page(MAX_NAMES_TOLD, "asc"))
        names = ", ".join(store.name for store in first) or "none yet"
        raise NotFoundError(
            f"there is no collection {name_or_id!r} (there are: {names}); "
            "make it with `rag-server index PATH --collection NAME`"
        )

    def use(self, name_or_id: str, access: Access) -> VectorStore:
        """Return the tenant's vector store of that id or name, to search or to fill it, which puts off its expiry.

        Raises:
            NotFoundError: There is none.
            ExpiredError: It was not used for longer than it may be.
        """
        found = self.get(name_or_id, access)
        if is_expired(found):
            raise ExpiredError(
                f"the vector store {found.name!r} is expired: it was not used for {found.expires_after_days} days; put its "
                "files into another one, or change its expires_after"
            )
        self._active[found.id] = int(time.time())
        return found

    def note_activity(self) -> None:
        """Write down which vector stores were used since the last time."""
        table = schema.vector_stores.c
        noted, self._active = self._active, {}
        if not noted:
            return
        try:
            with self._database.write() as connection:
                for store_id, at in sorted(noted.items()):
                    older = (table.id == store_id, table.last_active_at < at)
                    connection.execute(update(schema.vector_stores).where(*older).values(last_active_at=at))
        except BaseException:
            # To be tried again.
            self._active = {**noted, **self._active}
            raise

    def by_id(self, vector_store_id: str) -> VectorStore:
        """Return the vector store of that id, whosever it is: for work that nobody asks for.

        Raises:
            NotFoundError: There is none (any more).
        """
        with self._database.read() as connection:
            row = connection.execute(_SELECT.where(schema.vector_stores.c.id == vector_store_id)).mappings().one_or_none()
        if row is None:
            raise NotFoundError(f"there is no vector store {vector_store_id!r}")
        return self._known(row)

    def newest(self, limit: int) -> Sequence[VectorStore]:
        """Return the newest vector stores, whosever they are: for work that nobody asks for."""
        table = schema.vector_stores.c
        query = _SELECT.order_by(table.created_at.desc(), table.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [self._known(row) for row in connection.execute(query).mappings()]

    def create(
        self, new: NewVectorStore | str, access: Access, embedder: Embedder, files: Sequence[NewFile] = ()
    ) -> VectorStore:
        """Make a vector store for vectors of that model, with files to index: all of it, or nothing.

        Raises:
            InvalidRequestError: The name cannot be used, or the tenant has a collection of that name.
        """
        described = NewVectorStore(new) if isinstance(new, str) else new
        if described.name is not None:
            check_name(described.name)
        with self._database.write() as connection:
            _check_free(connection, described.name, access.tenant)
            made = self._known(_create(connection, described, access.tenant, embedder))
            for file in files:
                enqueue_file(connection, made, file, access)
        return made

    def get_or_create(self, name: str, access: Access, embedder: Embedder) -> VectorStore:
        """Return the vector store of that name, made on the spot if need be.

        Raises:
            EmbeddingMismatchError: It exists and holds vectors of another model.
        """
        check_name(name)
        with self._database.write() as connection:
            row = _find(connection, name, access.tenant)
            found = self._known(row or _create(connection, NewVectorStore(name), access.tenant, embedder))
        check_embedding(found, embedder)
        return found

    def change(self, vector_store: VectorStore, changes: Mapping[str, Any]) -> VectorStore:
        """Set the name (None takes it away), `metadata` or `expires_after_days`; what is not in `changes` stays.

        Raises:
            InvalidRequestError: The name cannot be used, or the tenant has a collection of that name.
            NotFoundError: The vector store was deleted meanwhile.
        """
        table = schema.vector_stores
        values = dict(changes)
        if "name" in values:
            if values["name"] is not None:
                check_name(values["name"])
            else:
                values["name"] = vector_store.id
        with self._database.write() as connection:
            if "name" in values:
                _check_free(connection, values["name"], vector_store.tenant, but=vector_store.id)
            if values:
                connection.execute(update(table).where(table.c.id == vector_store.id).values(values))
                seal(connection, table, table.c.id == vector_store.id)
            row = connection.execute(_SELECT.where(table.c.id == vector_store.id)).mappings().one_or_none()
        if row is None:
            raise NotFoundError(f"the collection {vector_store.name!r} was deleted meanwhile")
        return self._known(row)

    def delete(self, vector_store: VectorStore) -> None:
        """Remove the vector store with everything in it."""
        files, log, batches = schema.files, schema.deletions, schema.file_batches
        with self._database.write() as connection:
            delete_files(connection, vector_store.id, select(files.c.key).where(files.c.vector_store_id == vector_store.id))
            connection.execute(delete(batches).where(batches.c.vector_store_id == vector_store.id))
            connection.execute(delete(log).where(log.c.vector_store_id == vector_store.id))
            connection.execute(delete(schema.vector_stores).where(schema.vector_stores.c.id == vector_store.id))

    def num_documents(self, vector_store: VectorStore, access: Access) -> int:
        """Return how many documents `access` may read."""
        documents, files, stores = schema.documents, schema.files, schema.vector_stores
        joined = documents.join(files).join(stores, files.c.vector_store_id == stores.c.id)
        query = select(func.count()).select_from(joined).where(documents.c.vector_store_id == vector_store.id)
        with self._database.read() as connection:
            return int(connection.execute(query.where(readable_files(access))).scalar_one())

    def _known(self, row: RowMapping) -> VectorStore:
        """Return the vector store of a row, with what is not written down yet."""
        return VectorStore(**{**row, "last_active_at": max(row["last_active_at"], self._active.get(row["id"], 0))})


def check_embedding(vector_store: VectorStore, embedder: Embedder) -> None:
    """Raise EmbeddingMismatchError unless the vector store's vectors come from that model."""
    if (vector_store.embedding_model, vector_store.dimension) != (embedder.model_id, embedder.dimension):
        raise EmbeddingMismatchError(
            f"collection {vector_store.name!r} was built with the embedding model {vector_store.embedding_model} "
            f"({vector_store.dimension} dimensions), but {embedder.model_id} ({embedder.dimension}) is configured; set "
            "RAG_EMBEDDER__MODEL back, or change the collection with `rag-server index --change-model`"
        )


def expiry_of(vector_store: VectorStore) -> int | None:
    """Return when the vector store expires unless it is used before, in seconds since 1970; None is never."""
    days = vector_store.expires_after_days
    return None if days is None else vector_store.last_active_at + days * DAY_S


def is_expired(vector_store: VectorStore) -> bool:
    """Return whether the vector store was not used for longer than it may be."""
    expires_at = expiry_of(vector_store)
    return expires_at is not None and expires_at <= time.time()


def check_name(name: str) -> None:
    """Raise InvalidRequestError unless a collection can have that name."""
    faulty = not name or name.startswith("vs_") or any(not character.isprintable() or character == "/" for character in name)
    if faulty or len(name) > MAX_NAME_CHARACTERS:
        raise InvalidRequestError(
            f"{name[:MAX_NAME_CHARACTERS]!r} cannot name a collection: use up to {MAX_NAME_CHARACTERS} printable characters "
            "without '/', not starting with 'vs_'",
            "name",
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


def _find(connection: Connection, name_or_id: str, tenant: str) -> RowMapping | None:
    table = schema.vector_stores.c
    query = _SELECT.where(table.tenant == tenant, or_(table.id == name_or_id, table.name == name_or_id))
    return connection.execute(query).mappings().one_or_none()


def _check_free(connection: Connection, name: str | None, tenant: str, *, but: str | None = None) -> None:
    """Refuse the name of another collection than `but`."""
    other = None if name is None else _find(connection, name, tenant)
    if other is not None and other["id"] != but:
        raise InvalidRequestError(f"there is a collection {name!r} already; choose another name", "name")


def _create(connection: Connection, new: NewVectorStore, tenant: str, embedder: Embedder) -> RowMapping:
    table, store_id, now = schema.vector_stores, new_id("vs_"), int(time.time())
    values = {
        "id": store_id,
        "tenant": tenant,
        # A name never begins like an id.
        "name": new.name or store_id,
        "created_at": now,
        "last_active_at": now,
        "embedding_id": embedding_of(connection, embedder),
        "description": new.description,
        "metadata": dict(new.metadata),
        "expires_after_days": new.expires_after_days,
    }
    connection.execute(insert(table).values(values))
    seal(connection, table, table.c.id == store_id)
    return connection.execute(_SELECT.where(table.c.id == store_id)).mappings().one()
