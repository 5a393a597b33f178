"""The tables of the truth store (SQLAlchemy Core), readable by SQLite and PostgreSQL alike.

Chunk and deletion ids only ever grow and are never used again, so a derived index follows the log by remembering two numbers.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

# SQLite gives out growing ids only to a column that is exactly INTEGER.
GrowingId = BigInteger().with_variant(Integer, "sqlite")

vector_stores = Table(
    "vector_stores",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("embedding_id", ForeignKey("embeddings.id"), nullable=False),
)

# One set of vectors: changing a model makes a second set beside the first.
embeddings = Table(
    "embeddings",
    metadata,
    Column("id", GrowingId, primary_key=True, autoincrement=True),
    Column("model", String, nullable=False),
    Column("dimension", Integer, nullable=False),
    sqlite_autoincrement=True,
)

files = Table(
    "files",
    metadata,
    Column("id", String, primary_key=True),
    Column("vector_store_id", ForeignKey("vector_stores.id"), nullable=False),
    Column("source", String, nullable=False),
    Column("filename", String, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("status", String, nullable=False),
    # Of the file's bytes and the settings that it was indexed with; set only after its last document is durable.
    Column("fingerprint", String),
    UniqueConstraint("vector_store_id", "source"),
)

documents = Table(
    "documents",
    metadata,
    Column("id", GrowingId, primary_key=True, autoincrement=True),
    Column("vector_store_id", ForeignKey("vector_stores.id"), nullable=False),
    Column("file_id", ForeignKey("files.id"), nullable=False),
    Column("document_id", String, nullable=False),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("attributes", JSON, nullable=False),
    Column("content_hash", String, nullable=False),
    UniqueConstraint("file_id", "document_id"),
    Index("documents_of_vector_store", "vector_store_id"),
    sqlite_autoincrement=True,
)

chunks = Table(
    "chunks",
    metadata,
    Column("id", GrowingId, primary_key=True, autoincrement=True),
    Column("vector_store_id", ForeignKey("vector_stores.id"), nullable=False),
    Column("document_key", ForeignKey("documents.id"), nullable=False, index=True),
    Column("start", Integer, nullable=False),
    Column("end", Integer, nullable=False),
    # A copy of document.text[start:end]: cutting it out of a large document for every hit costs more than the disk.
    Column("text", Text, nullable=False),
    Index("chunks_of_vector_store", "vector_store_id", "id"),
    sqlite_autoincrement=True,
)

vectors = Table(
    "vectors",
    metadata,
    Column("embedding_id", ForeignKey("embeddings.id"), primary_key=True),
    Column("chunk_id", ForeignKey("chunks.id"), primary_key=True),
    # float32, little-endian.
    Column("vector", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

deletions = Table(
    "deletions",
    metadata,
    Column("id", GrowingId, primary_key=True, autoincrement=True),
    Column("vector_store_id", ForeignKey("vector_stores.id"), nullable=False),
    Column("chunk_id", GrowingId, nullable=False),
    Index("deletions_of_vector_store", "vector_store_id", "id"),
    sqlite_autoincrement=True,
)
