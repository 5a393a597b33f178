"""Says which chunks a query may find: the one place where permissions and filters are applied, before any ranking."""

import threading
from collections import OrderedDict

import numpy as np
from sqlalchemy import ColumnElement, Connection, or_, select

from rag_server.errors import InvalidFilterError
from rag_server.store import schema
from rag_server.store.attributes import BUILT_IN, condition, keys_of
from rag_server.store.database import Database
from rag_server.store.log import head
from rag_server.types import Access, ChunkIds, Cursor, Filter, Query, VectorStore

MAX_REMEMBERED_CHUNKS = 4_000_000
NUM_TURNS = 64


class Selection:
    """Chunk ids by access and filter, remembered for as long as nothing changes in the vector store."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._remembered: OrderedDict[object, ChunkIds] = OrderedDict()
        # Whoever asks for what is being selected waits for it; few others share the turn.
        self._turns = [threading.Lock() for _ in range(NUM_TURNS)]

    def chunk_ids(self, vector_store: VectorStore, query: Query) -> ChunkIds | None:
        """Return the chunks that the query's access and filter admit, ascending; None means all of them.

        Raises:
            InvalidFilterError: The filter names an attribute that nothing in sight has.
        """
        if query.access.principals is None and query.filter is None:
            return None
        # As text: 1 and True are equal, and are not the same filter.
        asked = (vector_store.id, query.access, repr(query.filter))
        # The dense and the lexical search of a query ask at the same time.
        with self._turns[hash(asked) % len(self._turns)]:
            known = self._recall(asked, query.heads.get(vector_store.id))
            return self._selected(vector_store, query, asked) if known is None else known

    def _selected(self, vector_store: VectorStore, query: Query, asked: object) -> ChunkIds:
        with self._database.read() as connection:
            now = head(connection, vector_store)
            known = self._recall(asked, now)
            if known is not None:
                return known
            if query.filter is not None:
                _check_keys(connection, query, query.filter)
            found = _select(connection, vector_store, query)
        self._remember((asked, now), found)
        return found

    def _recall(self, asked: object, head: Cursor | None) -> ChunkIds | None:
        """Return what was selected when the log had that head."""
        with self._lock:
            found = self._remembered.get((asked, head))
            if found is not None:
                self._remembered.move_to_end((asked, head))
            return found

    def _remember(self, key: object, found: ChunkIds) -> None:
        with self._lock:
            self._remembered[key] = found
            while len(self._remembered) > 1 and sum(map(len, self._remembered.values())) > MAX_REMEMBERED_CHUNKS:
                self._remembered.popitem(last=False)


def readable_files(access: Access) -> ColumnElement[bool]:
    """Return the condition on `files` (joined with `vector_stores`) that holds for those that `access` may read."""
    files, principals = schema.files.c, schema.file_principals.c
    if access.principals is None:
        return schema.vector_stores.c.tenant == access.tenant
    named = select(principals.file_key).where(principals.principal.in_(access.principals))
    return (schema.vector_stores.c.tenant == access.tenant) & or_(files.principals.is_(None), files.key.in_(named))


def _readable_documents(vector_store: VectorStore, access: Access) -> ColumnElement[bool]:
    """Return the condition on `chunks` that holds for those of documents that `access` may read."""
    documents, files, stores = schema.documents, schema.files, schema.vector_stores
    readable = (
        select(documents.c.id)
        .select_from(documents.join(files).join(stores, files.c.vector_store_id == stores.c.id))
        .where(documents.c.vector_store_id == vector_store.id, readable_files(access))
    )
    return schema.chunks.c.document_key.in_(readable)


def _select(connection: Connection, vector_store: VectorStore, query: Query) -> ChunkIds:
    statement = select(schema.chunks.c.id).where(schema.chunks.c.vector_store_id == vector_store.id)
    statement = statement.where(_readable_documents(vector_store, query.access))
    if query.filter is not None:
        statement = statement.where(condition(vector_store, query.filter))
    rows = connection.execute(statement.order_by(schema.chunks.c.id)).scalars().all()
    return np.array(rows, dtype=np.int64)


def _check_keys(connection: Connection, query: Query, filter_: Filter) -> None:
    """Refuse a misspelt attribute, which would silently find nothing; what others may read is not told."""
    keys = {key for key in keys_of(filter_) if key not in BUILT_IN}
    known = _known_keys(connection, query)
    missing = sorted(keys - known)
    if missing and known:
        raise InvalidFilterError(
            f"no document here has an attribute {missing[0]!r}; there are: {', '.join(sorted(known | set(BUILT_IN)))}",
            "filters",
        )


def _known_keys(connection: Connection, query: Query) -> set[str]:
    attributes, chunks = schema.attributes.c, schema.chunks
    known: set[str] = set()
    for vector_store in query.vector_stores:
        names = select(attributes.name).distinct().where(attributes.vector_store_id == vector_store.id)
        if query.access.principals is not None:
            readable = select(chunks.c.document_key).where(_readable_documents(vector_store, query.access))
            names = names.where(attributes.document_key.in_(readable))
        known |= set(connection.execute(names).scalars())
    return known
