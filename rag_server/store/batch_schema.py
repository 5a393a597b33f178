"""The tables of batches, beside those of `schema.py`."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from rag_server.store.schema import metadata

batches = Table(
    "batches",
    metadata,
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("tenant", String, nullable=False),
    Column("owner", String, nullable=False),
    # Of the key that made it; its rows are answered as it would be.
    Column("key_id", String),
    # NULL: all.
    Column("scopes", JSON(none_as_null=True)),
    Column("endpoint", String, nullable=False),
    # Of `uploads`, which may be deleted before; NULL: the command line adds the rows.
    Column("input_file_id", String),
    Column("metadata", JSON, nullable=False),
    # NULL: its files stay.
    Column("output_expires_after_s", Integer),
    # Finds a batch of the command line again.
    Column("fingerprint", String),
    Column("status", String, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # NULL: never.
    Column("expires_at", BigInteger),
    Column("in_progress_at", BigInteger),
    Column("finalizing_at", BigInteger),
    Column("completed_at", BigInteger),
    Column("failed_at", BigInteger),
    Column("expired_at", BigInteger),
    Column("cancelling_at", BigInteger),
    Column("cancelled_at", BigInteger),
    Column("output_file_id", String),
    Column("error_file_id", String),
    Column("model", Text),
    # What is wrong with its input, as [code, message, line, param] each.
    Column("errors", JSON, nullable=False),
    Column("total", Integer, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    # The newest of `batch_results.sequence`; one that was given out is never given out again.
    Column("last_sequence", BigInteger, nullable=False),
    # Until when (seconds since 1970) which process works on it; another may take over afterwards.
    Column("lease_owner", String),
    Column("lease_until", Float),
    # When a process last took it; tenants get their turn by it.
    Column("leased_at", Float, nullable=False),
    Column("checksum", BigInteger, nullable=False, default=0),
    UniqueConstraint("tenant", "owner", "fingerprint"),
    Index("batches_by_status", "status"),
)

batch_rows = Table(
    "batch_rows",
    metadata,
    Column("batch_id", ForeignKey("batches.id"), primary_key=True),
    # Its line, from 0.
    Column("number", Integer, primary_key=True),
    Column("custom_id", Text, nullable=False),
    Column("request", Text, nullable=False),
    # Of what is asked: rows with the same have the same answer.
    Column("key", String, nullable=False),
    # It cannot be asked, and failed when it was added.
    Column("is_refused", Boolean, nullable=False),
    Column("checksum", BigInteger, nullable=False),
    Index("batch_rows_by_key", "batch_id", "key"),
)

# A row has at most one: the primary key says so.
batch_results = Table(
    "batch_results",
    metadata,
    Column("batch_id", ForeignKey("batches.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    # completed or failed.
    Column("status", String, nullable=False),
    Column("status_code", Integer),
    Column("response", Text),
    Column("request_id", String),
    # Where there is no response.
    Column("error_code", String),
    Column("error_message", Text),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("finished_at", Float, nullable=False),
    Column("checksum", BigInteger, nullable=False),
    UniqueConstraint("batch_id", "sequence"),
)
