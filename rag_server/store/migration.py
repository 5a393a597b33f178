"""Brings a database of a version before to this layout, in the transaction that opens it, and keeps everything in it."""

from collections.abc import Mapping

from sqlalchemy import Connection, MetaData, Table, insert, inspect, select, text, update
from sqlalchemy.schema import CreateColumn

from rag_server.errors import StoreDamagedError
from rag_server.store import schema
from rag_server.store.seals import seal, seal_of

SCHEMA_VERSION = 6
# What the checksums of version 2 cover where it is not the same today.
SEALED_BEFORE: Mapping[Table, tuple[str, ...]] = {
    schema.vector_stores: ("id", "tenant", "name", "created_at", "embedding_id"),
    schema.uploads: ("id", "tenant", "filename", "purpose", "bytes", "created_at", "principals", "is_complete"),
    schema.keys: ("id", "name", "secret_hash", "tenant", "principals", "created_at", "revoked_at"),
}


def migrate(connection: Connection, version: int | None) -> bool:
    """Return whether the database was of version 2, 3, 4 or 5 and is of this one now.

    Raises:
        StoreDamagedError: A row is not what was stored; its checksum is not written anew over it.
    """
    if version not in (2, 3, 4, 5):
        return False
    _add_what_is_missing(connection, schema.metadata)
    if version == 2:
        for table, columns in SEALED_BEFORE.items():
            _check(connection, table, columns)
        _fill(connection)
        for table in SEALED_BEFORE:
            seal(connection, table)
    connection.execute(update(schema.facts).where(schema.facts.c.name == "schema").values(value=SCHEMA_VERSION))
    return True


def _add_what_is_missing(connection: Connection, metadata: MetaData) -> None:
    """Make the columns, tables and indexes that are not there."""
    found = inspect(connection)
    there = set(found.get_table_names())
    quote = connection.dialect.identifier_preparer.format_table
    for table in metadata.sorted_tables:
        if table.name not in there:
            continue
        columns = {column["name"] for column in found.get_columns(table.name)}
        indexes = {index["name"] for index in found.get_indexes(table.name)}
        for column in table.columns:
            if column.name not in columns:
                definition = CreateColumn(column).compile(dialect=connection.dialect)
                connection.execute(text(f"ALTER TABLE {quote(table)} ADD COLUMN {definition}"))
        for index in table.indexes:
            if index.name not in indexes:
                index.create(connection)
    metadata.create_all(connection)


def _check(connection: Connection, table: Table, columns: tuple[str, ...]) -> None:
    for row in connection.execute(select(table)).mappings():
        if seal_of(table, row, columns) != row["checksum"]:
            key = next(iter(table.primary_key)).name
            raise StoreDamagedError(
                f"the row {row[key]} of {table.name} is not what was stored; restore the store from a backup"
            )


def _fill(connection: Connection) -> None:
    """Give old rows what they could not have: a last use, and their principals as rows that can be searched."""
    stores, uploads = schema.vector_stores, schema.uploads
    connection.execute(update(stores).values(last_active_at=stores.c.created_at))
    for row in connection.execute(select(uploads.c.id, uploads.c.principals)).all():
        if row.principals:
            named = [{"upload_id": row.id, "principal": principal} for principal in row.principals]
            connection.execute(insert(schema.upload_principals), named)
