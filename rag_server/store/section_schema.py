"""The table of the sections of documents, beside those of `schema.py`."""

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Table

from rag_server.store.schema import metadata

# A document without sections has no row, and neither has one that was stored before there was this table.
document_sections = Table(
    "document_sections",
    metadata,
    Column("document_key", ForeignKey("documents.id"), primary_key=True),
    # [start, kind, label, level] of each, in the order of their starts.
    Column("sections", JSON, nullable=False),
    Column("checksum", BigInteger, nullable=False),
)
