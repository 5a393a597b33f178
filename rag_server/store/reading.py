"""What answering reads: passages for the prompt, and documents for display."""

from collections.abc import Sequence

from sqlalchemy import Row, Select, select

from rag_server.errors import NotFoundError
from rag_server.store import schema
from rag_server.store.database import Database
from rag_server.store.selection import readable_files
from rag_server.types import Access, Document, Hit, Passage


class Passages:
    """Passages and the documents that they come from."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def passages(self, hits: Sequence[Hit], access: Access) -> list[Passage]:
        """Return the passages of `hits` in their order, ranked from 1; those deleted or closed to `access` are left out."""
        query = _passage_query(access).where(schema.chunks.c.id.in_([hit.chunk_id for hit in hits]))
        with self._database.read() as connection:
            rows = {row.id: row for row in connection.execute(query)}
        found = [hit for hit in hits if hit.chunk_id in rows]
        return [_passage(rows[hit.chunk_id], hit.score, rank) for rank, hit in enumerate(found, start=1)]

    def passage(self, passage_id: int, access: Access) -> tuple[Passage, Document]:
        """Return one passage and its whole document.

        Raises:
            NotFoundError: There is no such passage (any more), or it is closed to `access`.
        """
        documents, chunks = schema.documents, schema.chunks
        whole = select(documents.c.text).select_from(chunks.join(documents)).where(chunks.c.id == passage_id)
        with self._database.read() as connection:
            row = connection.execute(_passage_query(access).where(chunks.c.id == passage_id)).one_or_none()
            if row is None:
                raise NotFoundError(f"there is no passage {passage_id}; its document was changed or removed since")
            text = connection.execute(whole).scalar_one()
        passage = _passage(row, score=0.0, rank=0)
        return passage, Document(passage.document_id, passage.title, text, passage.attributes)


def _passage_query(access: Access) -> Select[tuple[object, ...]]:
    chunks, documents, files, stores = schema.chunks, schema.documents, schema.files, schema.vector_stores
    return (
        select(
            chunks.c.id,
            documents.c.document_id,
            files.c.id.label("file_id"),
            files.c.filename,
            documents.c.title,
            chunks.c.text,
            chunks.c.start,
            chunks.c.end,
            chunks.c.place,
            documents.c.attributes,
            files.c.attributes.label("file_attributes"),
        )
        .select_from(chunks.join(documents).join(files).join(stores, files.c.vector_store_id == stores.c.id))
        .where(readable_files(access))
    )


def _passage(row: Row[tuple[object, ...]], score: float, rank: int) -> Passage:
    values = dict(row._mapping)
    attributes = {**values.pop("file_attributes"), **values.pop("attributes")}
    return Passage(**values, attributes=attributes, score=score, rank=rank)
