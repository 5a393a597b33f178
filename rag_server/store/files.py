"""Files with their documents, chunks and vectors: every change is one durable transaction, every removal a log row."""

import secrets
import time
from collections.abc import Collection, Sequence

from sqlalchemy import Connection, delete, func, insert, literal, select, update

from rag_server.store import schema
from rag_server.store.database import Database
from rag_server.types import EmbeddedDocument, StoredFile, VectorStore

# SQLite takes 32,766 parameters in one statement.
MAX_PARAMETERS = 10_000


class Files:
    """The files of the vector stores."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, vector_store: VectorStore, source: str) -> StoredFile | None:
        """Return the file that was indexed from `source` (an absolute path), if there is one."""
        with self._database.read() as connection:
            return _find(connection, vector_store, source)

    def begin(self, vector_store: VectorStore, source: str, *, filename: str, num_bytes: int) -> StoredFile:
        """Return the file of `source`, marked as in progress; what an earlier run stored stays until it is replaced."""
        table = schema.files
        with self._database.write() as connection:
            found = _find(connection, vector_store, source)
            if found is None:
                found = StoredFile(
                    id=f"file-{secrets.token_hex(12)}",
                    vector_store_id=vector_store.id,
                    source=source,
                    filename=filename,
                    bytes=num_bytes,
                    created_at=int(time.time()),
                    status="in_progress",
                    fingerprint=None,
                )
                row = {column.name: getattr(found, column.name) for column in table.columns}
                connection.execute(insert(table).values(row))
            else:
                changes = {"status": "in_progress", "fingerprint": None, "bytes": num_bytes}
                connection.execute(update(table).where(table.c.id == found.id).values(changes))
        return found

    def unchanged(self, file: StoredFile, content_hashes: dict[str, str]) -> set[str]:
        """Return those document ids whose stored content has the given hash."""
        table = schema.documents.c
        unchanged: set[str] = set()
        with self._database.read() as connection:
            for ids in _portions(list(content_hashes)):
                query = select(table.document_id, table.content_hash).where(
                    table.file_id == file.id, table.document_id.in_(ids)
                )
                unchanged |= {row[0] for row in connection.execute(query) if content_hashes[row[0]] == row[1]}
        return unchanged

    def put_documents(self, vector_store: VectorStore, file: StoredFile, documents: Sequence[EmbeddedDocument]) -> None:
        """Store the documents, each replacing the file's document of the same id, in one transaction."""
        with self._database.write() as connection:
            ids = [embedded.document.document_id for embedded in documents]
            _delete_documents(connection, vector_store, file, ids)
            for embedded in documents:
                _insert_document(connection, vector_store, file, embedded)

    def finish(self, vector_store: VectorStore, file: StoredFile, *, fingerprint: str | None, keep: Collection[str]) -> None:
        """Mark the file as complete and remove its documents whose ids are not in `keep`."""
        with self._database.write() as connection:
            stored = select(schema.documents.c.document_id).where(schema.documents.c.file_id == file.id)
            gone = [row[0] for row in connection.execute(stored) if row[0] not in keep]
            _delete_documents(connection, vector_store, file, gone)
            changes = {"status": "completed", "fingerprint": fingerprint}
            connection.execute(update(schema.files).where(schema.files.c.id == file.id).values(changes))

    def fail(self, file: StoredFile) -> None:
        """Mark the file as failed; what was stored of it stays searchable."""
        with self._database.write() as connection:
            connection.execute(update(schema.files).where(schema.files.c.id == file.id).values(status="failed"))

    def counts(self, vector_store: VectorStore) -> dict[str, int]:
        """Return the number of files by status: in_progress, completed, failed."""
        table = schema.files.c
        query = select(table.status, func.count()).where(table.vector_store_id == vector_store.id).group_by(table.status)
        with self._database.read() as connection:
            found = {row[0]: row[1] for row in connection.execute(query)}
        return {status: found.get(status, 0) for status in ("in_progress", "completed", "failed")}

    def usage_bytes(self, vector_store: VectorStore) -> int:
        """Return the size of the files that were indexed, in bytes."""
        table = schema.files.c
        query = select(func.coalesce(func.sum(table.bytes), 0)).where(table.vector_store_id == vector_store.id)
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())


def _find(connection: Connection, vector_store: VectorStore, source: str) -> StoredFile | None:
    table = schema.files
    query = select(table).where(table.c.vector_store_id == vector_store.id, table.c.source == source)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else StoredFile(**row)


def _portions(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + MAX_PARAMETERS] for start in range(0, len(ids), MAX_PARAMETERS)]


def _delete_documents(connection: Connection, vector_store: VectorStore, file: StoredFile, ids: Sequence[str]) -> None:
    documents, chunks, vectors = schema.documents, schema.chunks, schema.vectors
    for portion in _portions(ids):
        keys = select(documents.c.id).where(documents.c.file_id == file.id, documents.c.document_id.in_(portion))
        doomed = select(chunks.c.id).where(chunks.c.document_key.in_(keys))
        logged = select(literal(vector_store.id), chunks.c.id).where(chunks.c.document_key.in_(keys))
        connection.execute(insert(schema.deletions).from_select(["vector_store_id", "chunk_id"], logged))
        connection.execute(delete(vectors).where(vectors.c.chunk_id.in_(doomed)))
        connection.execute(delete(chunks).where(chunks.c.document_key.in_(keys)))
        connection.execute(delete(documents).where(documents.c.id.in_(keys)))


def _insert_document(connection: Connection, vector_store: VectorStore, file: StoredFile, embedded: EmbeddedDocument) -> None:
    document = embedded.document
    key = connection.execute(
        insert(schema.documents)
        .values(
            vector_store_id=vector_store.id,
            file_id=file.id,
            document_id=document.document_id,
            title=document.title,
            text=document.text,
            attributes=dict(document.attributes),
            content_hash=embedded.content_hash,
        )
        .returning(schema.documents.c.id)
    ).scalar_one()
    for chunk, vector in zip(embedded.chunks, embedded.vectors, strict=True):
        values = {
            "vector_store_id": vector_store.id,
            "document_key": key,
            "start": chunk.start,
            "end": chunk.end,
            "text": document.text[chunk.start : chunk.end],
        }
        chunk_id = connection.execute(insert(schema.chunks).values(values).returning(schema.chunks.c.id)).scalar_one()
        packed = {"embedding_id": vector_store.embedding_id, "chunk_id": chunk_id, "vector": vector.astype("<f4").tobytes()}
        connection.execute(insert(schema.vectors).values(packed))
