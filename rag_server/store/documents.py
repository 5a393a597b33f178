"""Documents with their chunks and vectors: every change is one durable transaction, every removal a log row."""

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, insert, literal, select, update

from rag_server.errors import CancelledByUserError, EmbeddingMismatchError, NotFoundError
from rag_server.store import schema
from rag_server.store.attributes import insert_attributes
from rag_server.store.database import Database
from rag_server.store.document_rows import insert_documents
from rag_server.store.log import unpack_vector
from rag_server.store.section_schema import document_sections
from rag_server.types import EmbeddedDocument, StoredChunk, StoredFile, VectorStore

# A process that has not been heard of for so long is taken for dead, and another one goes on with its file.
LEASE_S = 120.0
# SQLite takes 32,766 parameters in one statement.
MAX_PARAMETERS = 10_000
# Of documents, each of which may be large.
TEXTS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class FileEnd:
    """A file is read to its end. `keep` are the ids of all its documents, `error` is what was wrong with some of its rows."""

    fingerprint: str | None
    keep: Collection[str]
    error: str | None


@dataclass(frozen=True, slots=True)
class FilePart:
    """Documents of one file that are stored together, and its end, if they are the last."""

    file: StoredFile
    documents: Sequence[EmbeddedDocument]
    bytes_read: int
    end: FileEnd | None = None


class Documents:
    """The documents of files. `owner` is this process in the files' leases; without the lease nothing is changed."""

    def __init__(self, database: Database, owner: str) -> None:
        self._database = database
        self._owner = owner

    def has_any(self, file: StoredFile) -> bool:
        """Return whether anything is stored of the file."""
        query = select(schema.documents.c.id).where(schema.documents.c.file_key == file.key).limit(1)
        with self._database.read() as connection:
            return connection.execute(query).first() is not None

    def content_hashes(self, file: StoredFile) -> dict[str, str]:
        """Return the content hash of each of the file's documents, by its id."""
        table = schema.documents.c
        with self._database.read() as connection:
            query = select(table.document_id, table.content_hash).where(table.file_key == file.key)
            return {row.document_id: row.content_hash for row in connection.execute(query)}

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
        for error in self.store(vector_store, [FilePart(file, documents, bytes_read)]).values():
            raise error

    def finish(
        self, vector_store: VectorStore, file: StoredFile, *, fingerprint: str | None, keep: Collection[str], error: str | None
    ) -> None:
        """Mark the file as complete, with what was wrong with some of its rows, and remove documents that are not in `keep`.

        Raises:
            CancelledByUserError: The file was cancelled, deleted or taken over.
        """
        end = FileEnd(fingerprint, keep, error)
        for refused in self.store(vector_store, [FilePart(file, (), file.bytes, end)]).values():
            raise refused

    def store(self, vector_store: VectorStore, parts: Sequence[FilePart]) -> dict[int, CancelledByUserError]:
        """Do what `put` and `finish` do for several files, each once among `parts`, in one transaction.

        Return, by the key of the file, why a part was left out: its file was cancelled, deleted or taken over.

        Raises:
            EmbeddingMismatchError: The vector store has changed to another embedding model meanwhile; nothing was stored.
        """
        with self._database.write() as connection:
            if any(part.documents for part in parts):
                _check_embedding(connection, vector_store)
            files = _rows_of(connection, [part.file.key for part in parts])
            refused = {
                part.file.key: error
                for part in parts
                if (error := _refusal(files.get(part.file.key), part.file, self._owner)) is not None
            }
            stored = [part for part in parts if part.file.key not in refused]
            _delete_replaced(connection, vector_store, stored)
            new = [(part.file.key, embedded) for part in stored for embedded in part.documents]
            insert_documents(connection, vector_store, new, {key: row.attributes for key, row in files.items()})
            for part in stored:
                _note_progress(connection, vector_store, part)
        return refused


def check_leased(connection: Connection, file: StoredFile, owner: str) -> None:
    """Raise CancelledByUserError unless the file is still this process's to work on."""
    error = _refusal(_rows_of(connection, [file.key]).get(file.key), file, owner)
    if error is not None:
        raise error


def _rows_of(connection: Connection, keys: Sequence[int]) -> dict[int, Row[Any, Any, Any, Any]]:
    """Return what may have changed of the files since they were leased; a change of attributes does not end a lease."""
    table = schema.files.c
    query = select(table.key, table.status, table.lease_owner, table.attributes)
    return {row.key: row for some in _portions(keys) for row in connection.execute(query.where(table.key.in_(some)))}


def _refusal(row: Row[Any, Any, Any, Any] | None, file: StoredFile, owner: str) -> CancelledByUserError | None:
    """Return why the file is not the owner's to work on any more."""
    if row is None:
        return CancelledByUserError(f"{file.filename} was deleted while it was indexed")
    if row.status == "cancelled":
        return CancelledByUserError(f"{file.filename} was cancelled")
    if row.lease_owner != owner:
        return CancelledByUserError(f"{file.filename} is being indexed by another process now; nothing is lost")
    return None


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
    common = _rows_of(connection, [file_key])[file_key].attributes
    rows = connection.execute(select(documents.id, documents.attributes).where(documents.file_key == file_key)).all()
    insert_attributes(connection, vector_store_id, ((row.id, None, {**common, **row.attributes}) for row in rows))


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


def _delete_replaced(connection: Connection, vector_store: VectorStore, parts: Sequence[FilePart]) -> None:
    table = schema.documents.c
    wanted = [(part.file.key, embedded.document.document_id) for part in parts for embedded in part.documents]
    found: list[int] = []
    for some in _portions(wanted):
        query = select(table.id, table.file_key, table.document_id).where(
            table.file_key.in_({key for key, _ in some}), table.document_id.in_({document_id for _, document_id in some})
        )
        pairs = set(some)
        found += [row.id for row in connection.execute(query) if (row.file_key, row.document_id) in pairs]
    for keys in _portions(found):
        delete_documents(connection, vector_store.id, keys)


def _note_progress(connection: Connection, vector_store: VectorStore, part: FilePart) -> None:
    """Write how far the file is; of one that ends here, remove the documents that it no longer holds."""
    table, end = schema.documents.c, part.end
    changes: dict[str, Any] = {"bytes_read": part.bytes_read, "lease_until": time.time() + LEASE_S}
    if end is not None:
        stored = connection.execute(select(table.id, table.document_id).where(table.file_key == part.file.key))
        for keys in _portions([row.id for row in stored if row.document_id not in end.keep]):
            delete_documents(connection, vector_store.id, keys)
        changes = {
            "status": "completed",
            "fingerprint": end.fingerprint,
            "bytes_read": part.file.bytes,
            "error": end.error,
            "error_code": None if end.error is None else "invalid_file",
            "lease_owner": None,
            "lease_until": None,
        }
    connection.execute(update(schema.files).where(schema.files.c.key == part.file.key).values(changes))
