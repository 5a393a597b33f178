"""The sections of documents: as their loader found them or, of older documents, as the places of their chunks tell."""

from collections.abc import Iterable, Sequence
from typing import cast

from sqlalchemy import Connection, insert, select

from rag_server.store import schema
from rag_server.store.seals import seal_of
from rag_server.store.section_schema import document_sections as table
from rag_server.types import Place, Section, SectionKind

# Between the names of the headings that a chunk stands under.
PATH = " > "


def insert_sections(connection: Connection, documents: Iterable[tuple[int, Sequence[Section]]]) -> None:
    """Store the sections of new documents, given by their keys."""
    rows = [
        {
            "document_key": document_key,
            "sections": [[section.start, section.kind, section.label, section.level] for section in sections],
        }
        for document_key, sections in documents
        if sections
    ]
    if rows:
        connection.execute(insert(table), [{**row, "checksum": seal_of(table, row)} for row in rows])


def read_sections(connection: Connection, document_key: int) -> list[Section]:
    """Return the sections of a document, in the order of their starts."""
    query = select(table.c.sections).where(table.c.document_key == document_key)
    stored = connection.execute(query).scalar_one_or_none()
    if stored is not None:
        return [Section(*section) for section in stored]
    chunks = schema.chunks.c
    places = select(chunks.start, chunks.place).where(chunks.document_key == document_key).order_by(chunks.start, chunks.id)
    return sections_of_chunks((row.start, row.place) for row in connection.execute(places))


def sections_of_chunks(chunks: Iterable[tuple[int, Place]]) -> list[Section]:
    """Return a section wherever a chunk stands in another one than the chunk before it.

    Args:
        chunks: Start and place of each chunk, in the order of the text.
    """
    sections: list[Section] = []
    before: Place = {}
    for start, place in chunks:
        sections += [_section(start, kind, label) for kind, label in place.items() if before.get(kind) != label]
        before = place
    return sections


def sections_at(sections: Sequence[Section], start: int, end: int) -> tuple[Section, ...]:
    """Return the sections that start in a stretch, and before them the last of each kind that starts before it."""
    open_: dict[str, Section] = {section.kind: section for section in sections if section.start <= start}
    inside = [section for section in sections if start < section.start < end]
    return (*sorted(open_.values(), key=lambda section: section.start), *inside)


def _section(start: int, kind: str, label: str | float) -> Section:
    if kind != "heading":
        return Section(start, cast(SectionKind, kind), label)
    *above, name = str(label).split(PATH)
    return Section(start, "heading", name, len(above) + 1)
