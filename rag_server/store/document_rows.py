"""Writes the rows of new documents: their text, sections, chunks, vectors and attributes, inside somebody's transaction."""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select

from rag_server.store import schema
from rag_server.store.attributes import insert_attributes
from rag_server.store.seals import seal_of
from rag_server.store.sections import insert_sections
from rag_server.types import EmbeddedDocument, VectorStore


def insert_documents(
    connection: Connection,
    vector_store: VectorStore,
    new: Sequence[tuple[int, EmbeddedDocument]],
    common: Mapping[int, Mapping[str, Any]],
) -> None:
    """Insert documents, each with the key of its file, a table at a time; `common` are the files' attributes by their keys."""
    keys = _insert(connection, schema.documents, [_document_row(vector_store, key, embedded) for key, embedded in new])
    documents = [(key, file_key, embedded) for key, (file_key, embedded) in zip(keys, new, strict=True)]
    insert_sections(connection, [(key, embedded.document.sections) for key, _, embedded in documents])
    rows = [row for key, _, embedded in documents for row in _chunk_rows(vector_store, key, embedded)]
    chunk_ids = _insert(connection, schema.chunks, rows)
    if chunk_ids:
        vectors = (vector for _, _, one in documents for _, vector in zip(one.chunks, one.vectors, strict=True))
        connection.execute(insert(schema.vectors), pack_vectors(vector_store.embedding_id, chunk_ids, vectors))
    own = ((key, None, {**common[file_key], **embedded.document.attributes}) for key, file_key, embedded in documents)
    places = ((row["document_key"], chunk_id, row["place"]) for row, chunk_id in zip(rows, chunk_ids, strict=True))
    insert_attributes(connection, vector_store.id, [*own, *places])


def _insert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> Sequence[int]:
    """Insert the rows and return their ids, in the same order.

    Asked for each id as it is given out, SQLite would be handed row by row. Nobody else writes, and ids only ever grow.
    """
    if not rows:
        return []
    newest = connection.execute(select(func.coalesce(func.max(table.c.id), 0))).scalar_one()
    connection.execute(insert(table), rows)
    return connection.execute(select(table.c.id).where(table.c.id > newest).order_by(table.c.id)).scalars().all()


def _document_row(vector_store: VectorStore, file_key: int, embedded: EmbeddedDocument) -> dict[str, Any]:
    document = embedded.document
    values = {
        "vector_store_id": vector_store.id,
        "file_key": file_key,
        "document_id": document.document_id,
        "title": document.title,
        "text": document.text,
        "attributes": dict(document.attributes),
    }
    return {**values, "content_hash": embedded.content_hash, "checksum": seal_of(schema.documents, values)}


def _chunk_rows(vector_store: VectorStore, document_key: int, embedded: EmbeddedDocument) -> Iterator[dict[str, Any]]:
    for chunk in embedded.chunks:
        yield {
            "vector_store_id": vector_store.id,
            "document_key": document_key,
            "start": chunk.start,
            "end": chunk.end,
            "text": embedded.document.text[chunk.start : chunk.end],
            "place": dict(chunk.place),
        }


def pack_vectors(embedding_id: int, chunk_ids: Iterable[int], vectors: Any) -> list[dict[str, Any]]:
    """Return the rows of `vectors` for these chunks."""
    packed = (vector.astype("<f4").tobytes() for vector in vectors)
    return [
        {"embedding_id": embedding_id, "chunk_id": chunk_id, "vector": vector, "checksum": zlib.crc32(vector)}
        for chunk_id, vector in zip(chunk_ids, packed, strict=True)
    ]
