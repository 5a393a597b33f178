"""The tables of the truth store (SQLAlchemy Core), readable by SQLite and PostgreSQL alike. `checksum` is what seals.py says.

Chunk and deletion ids only ever grow and are never used again, so a derived index follows the log by remembering two numbers.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
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
# Compared by code point, as SQLite does unasked.
ComparableText = Text().with_variant(Text(collation="C"), "postgresql")
ComparableString = String().with_variant(String(collation="C"), "postgresql")

# Facts about the store itself: the version of this layout, the number of write transactions so far.
facts = Table(
    "facts",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

vector_stores = Table(
    "vector_stores",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("name", String, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("embedding_id", ForeignKey("embeddings.id"), nullable=False),
    Column("description", Text),
    Column("metadata", JSON, nullable=False, default={}, server_default="{}"),
    # So long without being used, and it is expired; NULL: never.
    Column("expires_after_days", Integer),
    Column("last_active_at", BigInteger, nullable=False, default=0, server_default="0"),
    Column("checksum", BigInteger, nullable=False, default=0),
    UniqueConstraint("tenant", "name"),
)

# One set of vectors: changing a model makes a second set beside the first.
embeddings = Table(
    "embeddings",
    metadata,
    Column("id", GrowingId, primary_key=True, autoincrement=True),
    Column("model", String, nullable=False, unique=True),
    Column("dimension", Integer, nullable=False),
    # The model's folder; NULL is the packaged one.
    Column("location", Text),
    Column("checksum", BigInteger, nullable=False, default=0),
    sqlite_autoincrement=True,
)

# What was uploaded. Its bytes are in the store too, so that every server of a cluster can index it.
uploads = Table(
    "uploads",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False, index=True),
    Column("filename", String, nullable=False),
    Column("purpose", String, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # Of the key that sent it; NULL: a key without a list.
    Column("principals", JSON(none_as_null=True)),
    # False while its parts are still coming in.
    Column("is_complete", Boolean, nullable=False),
    # From then on it is not there any more; NULL: never.
    Column("expires_at", BigInteger),
    # The numbers of its parts in order, as [first, count] each; NULL: all from 0.
    Column("layout", JSON(none_as_null=True)),
    Column("checksum", BigInteger, nullable=False, default=0),
    Index("uploads_by_expiry", "expires_at"),
)

# Who may read an upload of a key with a list; the same list as uploads.principals, to be searched.
upload_principals = Table(
    "upload_principals",
    metadata,
    Column("upload_id", ForeignKey("uploads.id"), primary_key=True),
    Column("principal", String, primary_key=True),
)

upload_parts = Table(
    "upload_parts",
    metadata,
    Column("upload_id", ForeignKey("uploads.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("content", LargeBinary, nullable=False),
    Column("checksum", BigInteger, nullable=False),
)

# A file that comes in parts, in any order; `uploads` holds it, incomplete until the last call.
upload_sessions = Table(
    "upload_sessions",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("owner", String, nullable=False),
    # Of `uploads`; what is complete may be deleted before its session.
    Column("file_id", String, nullable=False),
    Column("filename", String, nullable=False),
    Column("purpose", String, nullable=False),
    Column("mime_type", String, nullable=False),
    # As announced.
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    # NULL: as the purpose says.
    Column("file_expires_after_s", Integer),
    # pending, completed or cancelled; a pending one expires by itself.
    Column("status", String, nullable=False),
    Column("checksum", BigInteger, nullable=False, default=0),
)

session_parts = Table(
    "session_parts",
    metadata,
    Column("id", String, primary_key=True),
    Column("session_id", ForeignKey("upload_sessions.id"), nullable=False, index=True),
    # Its numbers in `upload_parts`.
    Column("first_number", Integer, nullable=False),
    Column("num_pieces", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # False while it is coming in.
    Column("is_complete", Boolean, nullable=False),
    Column("checksum", BigInteger, nullable=False, default=0),
    UniqueConstraint("session_id", "first_number"),
)

files = Table(
    "files",
    metadata,
    Column("key", GrowingId, primary_key=True, autoincrement=True),
    Column("id", ComparableString, nullable=False),
    Column("vector_store_id", ForeignKey("vector_stores.id"), nullable=False),
    # An absolute path, or upload:ID.
    Column("source", String, nullable=False),
    Column("filename", ComparableString, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # queued, in_progress, completed, failed or cancelled.
    Column("status", String, nullable=False),
    # Of the file's bytes and the settings that it was indexed with; set only after its last document is durable.
    Column("fingerprint", String),
    Column("attributes", JSON, nullable=False),
    # NULL: everyone of the tenant may read it.
    Column("principals", JSON(none_as_null=True)),
    # How it is cut: {"max_tokens": n, "overlap_tokens": n}; NULL is as the settings say.
    Column("chunking", JSON(none_as_null=True)),
    Column("error", Text),
    # server_error, unsupported_file or invalid_file.
    Column("error_code", String),
    Column("bytes_read", BigInteger, nullable=False),
    # Until when (seconds since 1970) which process works on it; another may take over afterwards.
    Column("lease_owner", String),
    Column("lease_until", Float),
    # How many processes have begun with it; one that kills its process each time is given up.
    Column("attempts", Integer, nullable=False, default=0),
    Column("checksum", BigInteger, nullable=False, default=0),
    UniqueConstraint("vector_store_id", "source"),
    UniqueConstraint("vector_store_id", "id"),
    Index("files_by_status", "status"),
    Index("files_by_fingerprint", "vector_store_id", "fingerprint"),
    sqlite_autoincrement=True,
)

# Who may read a restricted file; the same list as files.principals, to be searched.
file_principals = Table(
    "file_principals",
    metadata,
    Column("file_key", ForeignKey("files.key"), primary_key=True),
    Column("principal", String, primary_key=True),
)

# Files that were put into a vector store together.
file_batches = Table(
    "file_batches",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("vector_store_id", ForeignKey("vector_stores.id"), nullable=False, index=True),
    Column("created_at", BigInteger, nullable=False),
    Column("cancelled_at", BigInteger),
    Column("checksum", BigInteger, nullable=False, default=0),
)

file_batch_members = Table(
    "file_batch_members",
    metadata,
    Column("batch_id", ForeignKey("file_batches.id"), primary_key=True),
    Column("file_key", ForeignKey("files.key"), primary_key=True, index=True),
)

documents = Table(
    "documents",
    metadata,
    Column("id", GrowingId, primary_key=True, autoincrement=True),
    Column("vector_store_id", ForeignKey("vector_stores.id"), nullable=False),
    Column("file_key", ForeignKey("files.key"), nullable=False),
    Column("document_id", ComparableString, nullable=False),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    # Its own; those of the file come on top.
    Column("attributes", JSON, nullable=False),
    Column("content_hash", String, nullable=False),
    Column("checksum", BigInteger, nullable=False),
    UniqueConstraint("file_key", "document_id"),
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
    Column("place", JSON, nullable=False),
    Index("chunks_of_vector_store", "vector_store_id", "id"),
    sqlite_autoincrement=True,
)

vectors = Table(
    "vectors",
    metadata,
    Column("embedding_id", ForeignKey("embeddings.id"), primary_key=True),
    Column("chunk_id", ForeignKey("chunks.id"), primary_key=True, index=True),
    # float32, little-endian.
    Column("vector", LargeBinary, nullable=False),
    Column("checksum", BigInteger, nullable=False),
)

# What filters search: the attributes of documents (with their file's), and the places of chunks.
attributes = Table(
    "attributes",
    metadata,
    Column("id", GrowingId, primary_key=True, autoincrement=True),
    Column("vector_store_id", ForeignKey("vector_stores.id"), nullable=False),
    Column("document_key", ForeignKey("documents.id"), nullable=False, index=True),
    # NULL: every chunk of the document.
    Column("chunk_id", ForeignKey("chunks.id"), index=True),
    Column("name", String, nullable=False),
    # string, number or boolean.
    Column("kind", String, nullable=False),
    Column("text", ComparableText),
    # A number, a boolean as 0 or 1, or the instant of a string that is an ISO 8601 date, in seconds since 1970.
    Column("number", Float),
    Index("attributes_by_name", "vector_store_id", "name"),
)

deletions = Table(
    "deletions",
    metadata,
    Column("id", GrowingId, primary_key=True, autoincrement=True),
    Column("vector_store_id", ForeignKey("vector_stores.id"), nullable=False),
    # NULL: no chunk went, but attributes or principals changed, so what was found before may no longer be.
    Column("chunk_id", GrowingId),
    # With the chunk's id, so that SQLite's integrity check has two copies of it to compare.
    Index("deletions_of_vector_store", "vector_store_id", "id", "chunk_id"),
    sqlite_autoincrement=True,
)

keys = Table(
    "keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    # SHA-256 of the secret, which is random and long enough to need no salt.
    Column("secret_hash", String, nullable=False, unique=True),
    Column("tenant", String, nullable=False),
    # NULL: every file of the tenant.
    Column("principals", JSON(none_as_null=True)),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    # NULL: never.
    Column("expires_at", BigInteger),
    # NULL: everything.
    Column("scopes", JSON(none_as_null=True)),
    # What replaces the settings' limits, by name; NULL: nothing.
    Column("limits", JSON(none_as_null=True)),
    Column("checksum", BigInteger, nullable=False, default=0),
)
