"""The tables of stored chat completions, beside those of `schema.py`."""

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, String, Table, Text

from rag_server.store.schema import metadata

chat_completions = Table(
    "chat_completions",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("model", Text, nullable=False),
    # As it was answered.
    Column("completion", JSON, nullable=False),
    # Of the request.
    Column("messages", JSON, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("checksum", BigInteger, nullable=False, default=0),
    Index("chat_completions_of_tenant", "tenant", "created_at", "id"),
)

# The same as chat_completions.metadata, to be searched.
chat_completion_metadata = Table(
    "chat_completion_metadata",
    metadata,
    Column("completion_id", ForeignKey("chat_completions.id"), primary_key=True),
    Column("key", String, primary_key=True),
    Column("value", Text, nullable=False),
)
