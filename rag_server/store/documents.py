"""Documents with their chunks and vectors: every change is one durable transaction, every removal a log row."""

import time
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select, delete, insert, literal, select, update

from rag_server.errors import CancelledByUserError, EmbeddingMismatchError, NotFoundError
from rag_server.store import schema
from rag_server.store.attributes import insert_attributes
from rag_server.store.database import Database
from rag_server.store.log import unpack_vector
from rag_server.store.seals import seal_of
from rag_server.store.section_schema import document_sections
from rag_server.store.sections import insert_sections
from rag_server.types import Chunk, EmbeddedDocument, StoredChunk, StoredFile, VectorStore

# A process that has not been heard of for so long is taken for dead, and another one goes on with its file.
LEASE_S = 120.0
# SQLite takes 32,766 parameters in one statement.
MAX_PARAMETERS = 10_000
# Of documents, each of which may be large.
TEXTS_AT_ONCE = 16


class Documents:
    """The documents of files. `owner` is this process in the files' leases; without the lease nothing is changed."""

    def __init__(self, database: Database, owner: str) -> None:
        self._database = database
        self._owner = owner

    def unchanged(self, file: StoredFile, content_hashes: dict[str, str]) -> set[str]:
        """Return those document ids whose stored content has the given hash."""
        table = schema.documents.c
        unchanged: set[str] = set()
        with self._database.read() as connection:
            for ids in _portions(list(content_hashes)):
                query = select(table.document_id, table.content_hash).where(
                    table.file_key == file.key, table.document_id.in_(ids)
                )
                unchanged |= {row[0] for row in connection.execute(query) if content_hashes[row[0]] == row[1]}
        return unchanged

    def chunks(self, vector_store: VectorStore, file: StoredFile, document_id: str) -> list[StoredChunk]:
        """Return the chunks of a document with the vectors of the vector store's present model."""
        documents, chunks, vectors = schema.documents, schema.chunks, schema.vectors
        query = (
            select(documents.c.title, chunks.c.id, chunks.c.text, chunks.c.place, vectors.c.vector, vectors.c.checksum)
            .select_from(documents.join(chunks).join(vectors, vectors.c.chunk_id == chunks.c.id))
            .where(documents.c.file_key == file.key, documents.c.document_id == document_id)
            .where(vectors.c.embedding_id == vector_store.embedding_id)
        )
        with self._database.read() as connection:
            return [
                StoredChunk(row.title, row.text, row.place, unpack_vector(row.id, row.vector, row.checksum))
                for row in connection.execute(query)
            ]

    def has_title(self, file: StoredFile, title: str) -> bool:
        """Return whether a document of the file has that title."""
        table = schema.documents.c
        query = select(table.id).where(table.file_key == file.key, table.title == title).limit(1)
        with self._database.read() as connection:
            return connection.execute(query).first() is not None

    def texts(self, file: StoredFile) -> Iterator[str]:
        """Yield the text of each of the file's documents, in the order in which they were stored."""
        table = schema.documents.c
        of_file = select(table.id, table.text).where(table.file_key == file.key).order_by(table.id).limit(TEXTS_AT_ONCE)
        last = 0
        while True:
            with self._database.read() as connection:
                rows = connection.execute(of_file.where(table.id > last)).all()
            if not rows:
                return
            last = rows[-1].id
            yield from (row.text for row in rows)

    def put(
        self, vector_store: VectorStore, file: StoredFile, documents: Sequence[EmbeddedDocument], *, bytes_read: int
    ) -> None:
        """Store the documents, each replacing the file's document of the same id, in one transaction.

        Raises:
            CancelledByUserError: The file was cancelled, deleted or taken over.
            EmbeddingMismatchError: The vector store has changed to another embedding model meanwhile.
        """
        table = schema.documents.c
        with self._database.write() as connection:
            _check_embedding(connection, vector_store)
            check_leased(connection, file, self._owner)
            for ids in _portions([embedded.document.document_id for embedded in documents]):
                replaced = select(table.id).where(table.file_key == file.key, table.document_id.in_(ids))
                delete_documents(connection, vector_store.id, replaced)
            # Those of `file` are as old as the lease, which a change of attributes does not end.
            common = _attributes_of(connection, file.key)
            for embedded in documents:
                _insert_document(connection, vector_store, file, common, embedded)
            progress = {"bytes_read": bytes_read, "lease_until": time.time() + LEASE_S}
            connection.execute(update(schema.files).where(schema.files.c.key == file.key).values(progress))

    def finish(
        self, vector_store: VectorStore, file: StoredFile, *, fingerprint: str | None, keep: Collection[str], error: str | None
    ) -> None:
        """Mark the file as complete, with what was wrong with some of its rows, and remove documents that are not in `keep`."""
        table = schema.documents.c
        with self._database.write() as connection:
            check_leased(connection, file, self._owner)
            stored = connection.execute(select(table.id, table.document_id).where(table.file_key == file.key))
            for keys in _portions([row.id for row in stored if row.document_id not in keep]):
                delete_documents(connection, vector_store.id, keys)
            changes = {"status": "completed", "fingerprint": fingerprint, "bytes_read": file.bytes}
            connection.execute(
                update(schema.files)
                .where(schema.files.c.key == file.key)
                .values(
                    **changes,
                    error=error,
                    error_code=None if error is None else "invalid_file",
                    lease_owner=None,
                    lease_until=None,
                )
            )


def check_leased(connection: Connection, file: StoredFile, owner: str) -> None:
    """Raise CancelledByUserError unless the file is still this process's to work on."""
    row = connection.execute(
        select(schema.files.c.status, schema.files.c.lease_owner).where(schema.files.c.key == file.key)
    ).one_or_none()
    if row is None:
        raise CancelledByUserError(f"{file.filename} was deleted while it was indexed")
    if row.status == "cancelled":
        raise CancelledByUserError(f"{file.filename} was cancelled")
    if row.lease_owner != owner:
        raise CancelledByUserError(f"{file.filename} is being indexed by another process now; nothing is lost")


def delete_documents(connection: Connection, vector_store_id: str, keys: "Select[tuple[int]] | Sequence[int]") -> None:
    """Delete the documents of these keys, and write a log row for each of their chunks."""
    documents, chunks, vectors, attributes = schema.documents, schema.chunks, schema.vectors, schema.attributes
    doomed = select(chunks.c.id).where(chunks.c.document_key.in_(keys))
    logged = select(literal(vector_store_id), chunks.c.id).where(chunks.c.document_key.in_(keys))
    connection.execute(insert(schema.deletions).from_select(["vector_store_id", "chunk_id"], logged))
    for table in (attributes, document_sections):
        connection.execute(delete(table).where(table.c.document_key.in_(keys)))
    connection.execute(delete(vectors).where(vectors.c.chunk_id.in_(doomed)))
    connection.execute(delete(chunks).where(chunks.c.document_key.in_(keys)))
    connection.execute(delete(documents).where(documents.c.id.in_(keys)))


def refresh_attributes(connection: Connection, vector_store_id: str, file_key: int) -> None:
    """Write the attributes that filters search anew, after the file's own have changed."""
    documents, attributes = schema.documents.c, schema.attributes
    of_file = select(documents.id).where(documents.file_key == file_key)
    whole = attributes.c.document_key.in_(of_file) & attributes.c.chunk_id.is_(None)
    connection.execute(delete(attributes).where(whole))
    common = _attributes_of(connection, file_key)
    rows = connection.execute(select(documents.id, documents.attributes).where(documents.file_key == file_key)).all()
    insert_attributes(connection, vector_store_id, ((row.id, None, {**common, **row.attributes}) for row in rows))


def pack_vectors(embedding_id: int, chunk_ids: Iterable[int], vectors: Any) -> list[dict[str, Any]]:
    """Return the rows of `vectors` for these chunks."""
    packed = (vector.astype("<f4").tobytes() for vector in vectors)
    return [
        {"embedding_id": embedding_id, "chunk_id": chunk_id, "vector": vector, "checksum": zlib.crc32(vector)}
        for chunk_id, vector in zip(chunk_ids, packed, strict=True)
    ]


def _portions(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[start : start + MAX_PARAMETERS] for start in range(0, len(items), MAX_PARAMETERS)]


def _check_embedding(connection: Connection, vector_store: VectorStore) -> None:
    stores = schema.vector_stores.c
    found = connection.execute(select(stores.embedding_id).where(stores.id == vector_store.id)).scalar_one_or_none()
    if found is None:
        raise NotFoundError(f"the collection {vector_store.name!r} was deleted meanwhile")
    if found != vector_store.embedding_id:
        raise EmbeddingMismatchError(
            f"the collection {vector_store.name!r} was changed to another embedding model meanwhile; index again"
        )


def _attributes_of(connection: Connection, file_key: int) -> Mapping[str, Any]:
    found: Mapping[str, Any] = connection.execute(
        select(schema.files.c.attributes).where(schema.files.c.key == file_key)
    ).scalar_one()
    return found


def _insert_document(
    connection: Connection,
    vector_store: VectorStore,
    file: StoredFile,
    common: Mapping[str, Any],
    embedded: EmbeddedDocument,
) -> None:
    document = embedded.document
    attributes = dict(document.attributes)
    values = {
        "vector_store_id": vector_store.id,
        "file_key": file.key,
        "document_id": document.document_id,
        "title": document.title,
        "text": document.text,
        "attributes": attributes,
    }
    sealed = {**values, "content_hash": embedded.content_hash, "checksum": seal_of(schema.documents, values)}
    key = connection.execute(insert(schema.documents).values(sealed).returning(schema.documents.c.id)).scalar_one()
    insert_sections(connection, key, document.sections)
    chunk_ids = _insert_chunks(connection, vector_store, key, document.text, embedded.chunks)
    if chunk_ids:
        connection.execute(insert(schema.vectors), pack_vectors(vector_store.embedding_id, chunk_ids, embedded.vectors))
    places = ((key, chunk_id, chunk.place) for chunk_id, chunk in zip(chunk_ids, embedded.chunks, strict=True))
    insert_attributes(connection, vector_store.id, [(key, None, {**common, **attributes}), *places])


def _insert_chunks(
    connection: Connection, vector_store: VectorStore, document_key: int, text: str, chunks: Sequence[Chunk]
) -> Sequence[int]:
    if not chunks:
        return []
    values = [
        {
            "vector_store_id": vector_store.id,
            "document_key": document_key,
            "start": chunk.start,
            "end": chunk.end,
            "text": text[chunk.start : chunk.end],
            "place": dict(chunk.place),
        }
        for chunk in chunks
    ]
    statement = insert(schema.chunks).returning(schema.chunks.c.id, sort_by_parameter_order=True)
    return connection.execute(statement, values).scalars().all()
