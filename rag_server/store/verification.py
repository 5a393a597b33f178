"""Reads the whole truth store and compares every row with its checksum or its copy."""

import zlib
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Connection, Row, Select, exists, func, select
from sqlalchemy.exc import DBAPIError

from rag_server.errors import StoreDamagedError
from rag_server.store import schema
from rag_server.store.attributes import typed
from rag_server.store.chat_schema import chat_completion_metadata, chat_completions
from rag_server.store.database import Database
from rag_server.store.files import STATUSES
from rag_server.store.log import unpack_vector
from rag_server.store.seals import SEALED, seal_of
from rag_server.store.uploads import part_numbers

STREAMED_ROWS = 500


def verify(database: Database) -> None:
    """Check structure and content.

    Raises:
        StoreDamagedError: Something is not what was stored; the message says what.
    """
    checks: tuple[Callable[[Connection], None], ...] = (
        _check_seals,
        _check_chunks,
        _check_vectors,
        _check_parts,
        _check_upload_principals,
        _check_chat_metadata,
        _check_files,
        _check_log,
        _check_attributes,
    )
    with database.read() as connection:
        try:
            if database.is_sqlite:
                _check_sqlite(connection)
            for check in checks:
                check(connection.execution_options(yield_per=STREAMED_ROWS))
        # What SQLAlchemy, its JSON columns and the comparisons raise over flipped bytes.
        except (StoreDamagedError, ValueError, TypeError, KeyError, DBAPIError) as error:
            raise StoreDamagedError(f"{database.name} is damaged ({error}); restore it from a backup") from error


def _check_sqlite(connection: Connection) -> None:
    for pragma in ("integrity_check(1)", "foreign_key_check"):
        found = connection.exec_driver_sql(f"PRAGMA {pragma}").first()
        if found is not None and found[0] != "ok":
            raise StoreDamagedError(" ".join(map(str, found)))
    # An id that was given out must never be given out again.
    sequences = connection.exec_driver_sql("SELECT name, seq FROM sqlite_sequence")
    given: dict[str, int] = {row.name: row.seq for row in sequences}
    for table in (schema.chunks, schema.deletions):
        newest = connection.execute(select(func.max(table.c.id))).scalar_one() or 0
        if newest > given.get(table.name, 0):
            raise StoreDamagedError(f"the ids of {table.name} would be used twice")


def _check_seals(connection: Connection) -> None:
    for table in SEALED:
        key = next(iter(table.primary_key)).name
        for row in _rows(connection, select(table)):
            if seal_of(table, row._mapping) != row.checksum:
                raise StoreDamagedError(f"the row {row._mapping[key]} of {table.name} is not what was stored")


def _check_chunks(connection: Connection) -> None:
    chunks, documents = schema.chunks, schema.documents
    joined = chunks.join(documents)
    query = select(chunks, documents.c.text.label("whole"), documents.c.vector_store_id.label("owner")).select_from(joined)
    for row in _rows(connection, query):
        within = 0 <= row.start <= row.end <= len(row.whole)
        if not within or row.text != row.whole[row.start : row.end] or row.vector_store_id != row.owner:
            raise StoreDamagedError(f"the chunk {row.id} is not what its document says")


def _check_vectors(connection: Connection) -> None:
    chunks, stores, vectors, embeddings = schema.chunks, schema.vector_stores, schema.vectors, schema.embeddings
    for row in _rows(connection, select(vectors, embeddings.c.dimension).join(embeddings)):
        if unpack_vector(row.chunk_id, row.vector, row.checksum).shape != (row.dimension,):
            raise StoreDamagedError(f"the vector of chunk {row.chunk_id} is not as long as its model's")
    there = exists().where(vectors.c.embedding_id == stores.c.embedding_id, vectors.c.chunk_id == chunks.c.id)
    found = connection.execute(select(chunks.c.id).select_from(chunks.join(stores)).where(~there).limit(1)).scalar_one_or_none()
    if found is not None:
        raise StoreDamagedError(f"the vector of chunk {found} is missing")


def _check_parts(connection: Connection) -> None:
    parts: dict[str, list[tuple[int, int]]] = {}
    for row in _rows(connection, select(schema.upload_parts)):
        if zlib.crc32(row.content) != row.checksum:
            raise StoreDamagedError(f"part {row.number} of the upload {row.upload_id} is not what was stored")
        parts.setdefault(row.upload_id, []).append((row.number, len(row.content)))
    uploads = schema.uploads.c
    for row in _rows(connection, select(uploads.id, uploads.bytes, uploads.layout).where(uploads.is_complete)):
        found = parts.get(row.id, [])
        expected = list(range(len(found))) if row.layout is None else list(part_numbers(row.layout))
        if sorted(number for number, _ in found) != sorted(expected) or sum(size for _, size in found) != row.bytes:
            raise StoreDamagedError(f"a part of the upload {row.id} is missing")


def _check_upload_principals(connection: Connection) -> None:
    principals = schema.upload_principals.c
    named = _sets(connection, select(principals.upload_id, principals.principal))
    for row in _rows(connection, select(schema.uploads.c.id, schema.uploads.c.principals)):
        if set(row.principals or ()) != named.get(row.id, set()):
            raise StoreDamagedError(f"who may read the upload {row.id} is not what was stored")


def _check_chat_metadata(connection: Connection) -> None:
    searched: dict[str, dict[str, str]] = {}
    for row in _rows(connection, select(chat_completion_metadata)):
        searched.setdefault(row.completion_id, {})[row.key] = row.value
    for row in _rows(connection, select(chat_completions.c.id, chat_completions.c.metadata)):
        if row.metadata != searched.get(row.id, {}):
            raise StoreDamagedError(f"the metadata of the chat completion {row.id} are not what was stored")


def _check_files(connection: Connection) -> None:
    principals = schema.file_principals.c
    named = _sets(connection, select(principals.file_key, principals.principal))
    for row in _rows(connection, select(schema.files)):
        if row.status not in STATUSES or set(row.principals or ()) != named.get(row.key, set()):
            raise StoreDamagedError(f"the state of the file {row.id} is not what was stored")


def _check_log(connection: Connection) -> None:
    """A chunk that is said to be deleted and is there would be missing from the indexes."""
    chunks, deletions = schema.chunks, schema.deletions
    query = select(chunks.c.id).where(chunks.c.id.in_(select(deletions.c.chunk_id).where(deletions.c.chunk_id.is_not(None))))
    found = connection.execute(query.limit(1)).scalar_one_or_none()
    if found is not None:
        raise StoreDamagedError(f"the chunk {found} is there and said to be deleted")


def _check_attributes(connection: Connection) -> None:
    """The attributes that filters search are those of the documents, their files and the places of the chunks."""
    chunks, documents, files = schema.chunks, schema.documents, schema.files
    expected: dict[tuple[int, int | None, str], tuple[object, ...]] = {}
    query = select(documents.c.id, documents.c.vector_store_id, files.c.attributes.label("common"), documents.c.attributes)
    for row in _rows(connection, query.select_from(documents.join(files))):
        for name, value in {**row.common, **row.attributes}.items():
            expected[row.id, None, name] = (row.vector_store_id, *typed(value).values())
    for row in _rows(connection, select(chunks.c.id, chunks.c.document_key, chunks.c.vector_store_id, chunks.c.place)):
        for name, value in row.place.items():
            expected[row.document_key, row.id, name] = (row.vector_store_id, *typed(value).values())
    for row in _rows(connection, select(schema.attributes)):
        found = (row.vector_store_id, row.kind, row.text, row.number)
        if expected.pop((row.document_key, row.chunk_id, row.name), None) != found:
            raise StoreDamagedError(f"the attribute {row.name} of document {row.document_key} is not what was stored")
    if expected:
        raise StoreDamagedError(f"{len(expected)} attributes are missing")


def _sets(connection: Connection, query: Select[Any]) -> dict[Any, set[str]]:
    """Return the second column's values by those of the first."""
    found: dict[Any, set[str]] = {}
    for key, value in map(tuple, _rows(connection, query)):
        found.setdefault(key, set()).add(value)
    return found


def _rows(connection: Connection, query: Select[tuple[Any, ...]]) -> Iterator[Row[Any]]:
    """Yield the rows; PostgreSQL's cursor is closed at once when the one who reads them has seen enough."""
    with connection.execute(query) as result:
        yield from result
