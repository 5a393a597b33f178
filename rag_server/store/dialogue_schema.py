"""The tables of responses and conversations, beside those of `schema.py`."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, ForeignKey, String, Table, UniqueConstraint

from rag_server.store.schema import GrowingId, metadata

responses = Table(
    "responses",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # As in the response, to be asked for.
    Column("status", String, nullable=False),
    # A response before this one may be deleted.
    Column("previous_response_id", String),
    # The object without its output, which is in `response_items`.
    Column("response", JSON, nullable=False),
    # Of one that is made in the background: until when (seconds since 1970) a process works on it; NULL: nobody need.
    Column("lease_until", Float),
    Column("checksum", BigInteger, nullable=False, default=0),
)

response_items = Table(
    "response_items",
    metadata,
    # Grows in the order of the items.
    Column("key", GrowingId, primary_key=True, autoincrement=True),
    Column("response_id", ForeignKey("responses.id"), nullable=False, index=True),
    Column("is_output", Boolean, nullable=False),
    Column("id", String, nullable=False, index=True),
    Column("item", JSON, nullable=False),
    Column("checksum", BigInteger, nullable=False, default=0),
    sqlite_autoincrement=True,
)

# What was streamed of a response that was made in the background, so that it can be streamed again.
response_events = Table(
    "response_events",
    metadata,
    Column("response_id", ForeignKey("responses.id"), primary_key=True),
    Column("events", JSON, nullable=False),
)

conversations = Table(
    "conversations",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("checksum", BigInteger, nullable=False, default=0),
)

conversation_items = Table(
    "conversation_items",
    metadata,
    # Grows in the order of the items.
    Column("key", GrowingId, primary_key=True, autoincrement=True),
    Column("conversation_id", ForeignKey("conversations.id"), nullable=False),
    Column("id", String, nullable=False, index=True),
    Column("item", JSON, nullable=False),
    Column("checksum", BigInteger, nullable=False, default=0),
    UniqueConstraint("conversation_id", "id"),
    sqlite_autoincrement=True,
)
