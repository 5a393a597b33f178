"""What answering reads: passages for the prompt, and documents for display."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from rag_server.errors import NotFoundError
from rag_server.store import schema
from rag_server.store.database import Database
from rag_server.store.file_rows import COLUMNS as FILE_COLUMNS
from rag_server.store.file_rows import stored_file
from rag_server.store.paging import page_of
from rag_server.store.sections import read_sections, sections_at
from rag_server.store.selection import readable_files
from rag_server.types import Access, Hit, Page, Passage, StoredFile, StoredPassage, Stretch

# Of a document's text, at once: a long book, and no more than a page can show.
MAX_STRETCH_CHARACTERS = 400_000


class Passages:
    """Passages and the documents that they come from."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def passages(self, hits: Sequence[Hit], access: Access) -> list[Passage]:
        """Return the passages of `hits` in their order, ranked from 1; those deleted or closed to `access` are left out."""
        return self.of_each([(hits, access)])[0]

    def of_each(self, asked: Sequence[tuple[Sequence[Hit], Access]]) -> list[list[Passage]]:
        """Return the `passages` of each, read together."""
        wanted: dict[Access, set[int]] = defaultdict(set)
        for hits, access in asked:
            wanted[access].update(hit.chunk_id for hit in hits)
        with self._database.read() as connection:
            found = {access: _rows(connection, ids, access) for access, ids in wanted.items()}
        return [_ranked(hits, found[access]) for hits, access in asked]

    def passage(self, passage_id: int, access: Access) -> StoredPassage:
        """Return one passage.

        Raises:
            NotFoundError: There is no such passage (any more), or it is closed to `access`.
        """
        with self._database.read() as connection:
            passage, document = _one(connection, passage_id, access)
        return StoredPassage(passage, document.vector_store_id, len(document.text))

    def stretch(self, passage_id: int, access: Access, *, start: int | None = None, end: int | None = None) -> Stretch:
        """Return the text of the passage's document, or at most MAX_STRETCH_CHARACTERS of it.

        Without `start` and `end` it is the whole, or where that is longer what stands around the passage. With one of them it
        is what follows, or what goes before; what lies beyond the text is not there.

        Raises:
            NotFoundError: There is no such passage (any more), or it is closed to `access`.
        """
        with self._database.read() as connection:
            passage, document = _one(connection, passage_id, access)
            sections = read_sections(connection, document.id)
        text = document.text
        start, end = _bounds(passage, len(text), start, end)
        shown = sections_at(sections, start, end)
        return Stretch(passage.document_id, passage.title, len(text), start, end, text[start:end], shown)

    def file(self, passage_id: int, access: Access) -> StoredFile:
        """Return the file that a passage comes from.

        Raises:
            NotFoundError: There is no such passage (any more), or it is closed to `access`.
        """
        chunks, documents, files, stores = schema.chunks, schema.documents, schema.files, schema.vector_stores
        joined = chunks.join(documents).join(files).join(stores, files.c.vector_store_id == stores.c.id)
        query = select(*FILE_COLUMNS).select_from(joined).where(chunks.c.id == passage_id, readable_files(access))
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise _no_passage(passage_id)
        return stored_file(row)

    def page(self, file: StoredFile, access: Access, page: Page) -> tuple[list[Passage], bool]:
        """Return a page of the file's passages, in the order of its text, and whether there are more.

        Raises:
            InvalidRequestError: There is no passage with the id `page.after` in the file.
        """
        documents, chunks = schema.documents, schema.chunks
        query = _passage_query(access).where(documents.c.file_key == file.key)
        position = [documents.c.id, chunks.c.start, chunks.c.id]
        with self._database.read() as connection:
            rows, has_more = page_of(connection, query, page, id_=chunks.c.id, position=position)
        return [_passage(row, score=0.0, rank=0) for row in rows], has_more


def _rows(connection: Connection, chunk_ids: Collection[int], access: Access) -> dict[int, Row[tuple[object, ...]]]:
    query = _passage_query(access).where(schema.chunks.c.id.in_(chunk_ids))
    return {row.id: row for row in connection.execute(query)}


def _ranked(hits: Sequence[Hit], rows: Mapping[int, Row[tuple[object, ...]]]) -> list[Passage]:
    found = [hit for hit in hits if hit.chunk_id in rows]
    return [_passage(rows[hit.chunk_id], hit.score, rank) for rank, hit in enumerate(found, start=1)]


def _one(connection: Connection, passage_id: int, access: Access) -> tuple[Passage, Any]:
    """Return a passage, and the row of its document."""
    documents, chunks = schema.documents, schema.chunks
    row = connection.execute(_passage_query(access).where(chunks.c.id == passage_id)).one_or_none()
    if row is None:
        raise _no_passage(passage_id)
    whole = select(documents.c.id, documents.c.vector_store_id, documents.c.text)
    document = connection.execute(whole.select_from(chunks.join(documents)).where(chunks.c.id == passage_id)).one()
    return _passage(row, score=0.0, rank=0), document


def _no_passage(passage_id: int) -> NotFoundError:
    return NotFoundError(f"there is no passage {passage_id}; its document was changed or removed since")


def _bounds(passage: Passage, length: int, start: int | None, end: int | None) -> tuple[int, int]:
    """Return which stretch of a text of that length is meant."""
    if start is None and end is None:
        # All of it, or as much on both sides of the passage.
        middle = (passage.start + passage.end) // 2
        start = 0 if length <= MAX_STRETCH_CHARACTERS else middle - MAX_STRETCH_CHARACTERS // 2
    if start is None:
        start = end - MAX_STRETCH_CHARACTERS if end is not None else 0
    start = min(max(0, start), length)
    end = length if end is None else min(end, length)
    return start, min(max(start, end), start + MAX_STRETCH_CHARACTERS)


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
