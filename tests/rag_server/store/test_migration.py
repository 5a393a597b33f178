"""A store that the version before wrote is opened with everything that is in it, on either database."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, insert, inspect, make_url, text

from rag_server.batch_types import BatchRow, NewBatch
from rag_server.errors import StoreDamagedError, StoreError
from rag_server.factory import Store
from rag_server.store import schema
from rag_server.store.database import SCHEMA_VERSION
from rag_server.store.verification import verify
from rag_server.types import Access, Caller, Cursor, NewFile, Page, Section
from tests.rag_server.store import version_2
from tests.stores import MODEL, embedded, rows

Open = Callable[[], Store]
SECRET = "rag-secret-of-version-2"
TEAM = Access("team")


def write_version_2(url: str, *changes: str) -> None:
    """Make the store as version 2 did, by its own statements, and then what the test changes."""
    parsed = make_url(url)
    is_sqlite = parsed.get_backend_name() == "sqlite"
    if is_sqlite:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed if is_sqlite else parsed.set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        for statement in (version_2.SQLITE if is_sqlite else version_2.POSTGRESQL).split(";\n"):
            connection.exec_driver_sql(statement) if statement.strip() else None
        for table, (columns, values) in version_2.ROWS.items():
            names = ", ".join(f'"{column}"' for column in columns)
            places = ", ".join(f":{column}" for column in columns)
            statement = text(f"INSERT INTO {table} ({names}) VALUES ({places})")
            connection.execute(statement, [dict(zip(columns, row, strict=True)) for row in values])
        for table, newest in version_2.NEWEST_IDS.items():
            if is_sqlite:
                connection.exec_driver_sql("UPDATE sqlite_sequence SET seq = ? WHERE name = ?", (newest, table))
            else:
                key = "key" if table == "files" else "id"
                connection.exec_driver_sql(f"SELECT setval(pg_get_serial_sequence('{table}', '{key}'), {newest})")
        for change in changes:
            connection.exec_driver_sql(change)
    engine.dispose()


def shape(connection: Connection) -> dict[str, object]:
    """Every table with its columns, their types and whether they may be empty, and the indexes."""
    found = inspect(connection)
    return {
        table: (
            sorted((column["name"], str(column["type"]), column["nullable"]) for column in found.get_columns(table)),
            sorted((index["name"], tuple(index["column_names"])) for index in found.get_indexes(table)),
        )
        for table in found.get_table_names()
    }


def test_everything_is_still_there(database_url: str, open_store: Open) -> None:
    """Collections, files, passages, uploads and keys of the old store are read as they were, and the whole is undamaged."""
    write_version_2(database_url)

    store = open_store()

    verify(store.database)
    assert rows(store, "SELECT value FROM facts WHERE name = 'schema'") == [(SCHEMA_VERSION,)]
    docs = store.vector_stores.get("docs", Access())
    assert (docs.description, docs.metadata, docs.expires_after_days, docs.last_active_at) == (None, {}, None, 1_700_000_020)
    (file,) = store.files.readable(docs, Access("", frozenset({"Zoe"})))
    assert (file.filename, file.attributes, file.chunking["max_tokens"], file.error_code) == (
        "a.md",
        {"team": "red"},
        100,
        None,
    )
    assert [chunk.text for chunk in store.log.read(docs, Cursor(), 9).added] == ["Cats sleep. ", "Dogs bark."]
    assert store.keys.find(SECRET).access == Access("team", frozenset({"red"}))
    assert (store.keys.find(SECRET).expires_at, store.keys.find(SECRET).scopes) == (None, None)
    assert store.keys.find("rag-another-secret") is None


def test_uploads_are_found_by_their_senders_and_indexed(database_url: str, open_store: Open) -> None:
    """Principals of uploads, which had no rows of their own, are searched; what waited to be indexed still waits."""
    write_version_2(database_url)
    store = open_store()

    for principals, sees in ((None, True), ({"red"}, True), ({"blue", "x"}, True), ({"green"}, False)):
        access = Access("team", None if principals is None else frozenset(principals))
        found, _ = store.uploads.page(access, Page())
        assert [upload.filename for upload in found] == (["räksmörgås.txt"] if sees else [])
    (upload,) = store.uploads.readable(TEAM)
    assert b"".join(store.uploads.content(upload.id)) == b"onetwo"
    assert store.files.lease().id == upload.id


def test_old_store_is_used_like_a_new_one(database_url: str, open_store: Open) -> None:
    """New chunks get new ids, collections and uploads are changed and deleted, and the checks still pass."""
    write_version_2(database_url)
    store = open_store()
    docs = store.vector_stores.get("docs", Access())
    file = store.files.begin(docs, NewFile("/papers/c.md", "c.md", 1))
    store.documents.put(docs, file, [embedded("c.md", "New.")], bytes_read=1)

    added = [chunk.id for chunk in store.log.read(docs, Cursor(2, 1), 9).added]
    changed = store.vector_stores.change(docs, {"metadata": {"a": "b"}, "expires_after_days": 3})
    made = store.vector_stores.create("new", Access(), MODEL)
    for upload in store.uploads.readable(TEAM):
        store.uploads.delete(upload, TEAM)
    store.vector_stores.delete(made)

    assert added == [4]
    assert store.vector_stores.get("docs", Access()) == changed
    assert store.files.readable(store.vector_stores.get("docs", TEAM), TEAM) == []
    verify(store.database)


def test_migrated_layout_is_the_new_one(database_url: str, open_store: Open) -> None:
    """Tables, columns and indexes are those that a new store gets."""
    write_version_2(database_url)
    with open_store().database.write() as connection:
        migrated = shape(connection)
        schema.metadata.drop_all(connection)
        schema.metadata.create_all(connection)
        connection.execute(insert(schema.facts).values(name="commits", value=0))
        fresh = shape(connection)

    assert migrated == fresh


def test_store_of_version_3_gets_what_it_lacks(database_url: str, open_store: Open) -> None:
    """It only has no table of sections; its documents are read without, and new ones have theirs."""
    before = open_store()
    docs = before.vector_stores.create("docs", Access(), MODEL)
    file = before.files.begin(docs, NewFile("/papers/a.md", "a.md", 1))
    before.documents.put(docs, file, [embedded("a.md", "Old.", places=[{"heading": "A > B"}])], bytes_read=1)
    with before.database.write() as connection:
        connection.exec_driver_sql("DROP TABLE document_sections")
        connection.exec_driver_sql("UPDATE facts SET value = 3 WHERE name = 'schema'")

    store = open_store()

    verify(store.database)
    assert rows(store, "SELECT value FROM facts WHERE name = 'schema'") == [(SCHEMA_VERSION,)]
    assert store.passages.stretch(1, Access()).sections == (Section(0, "heading", "B", 2),)
    new = embedded("b.md", "New.")
    new = replace(new, document=replace(new.document, sections=(Section(0, "page", 1.0),)))
    store.documents.put(docs, store.files.begin(docs, NewFile("/papers/b.md", "b.md", 1)), [new], bytes_read=1)
    assert store.passages.stretch(2, Access()).sections == (Section(0, "page", 1.0),)


def test_store_of_version_4_gets_what_it_lacks(database_url: str, open_store: Open) -> None:
    """It only has no tables of batches; what it holds is still there, and batches are made in it."""
    before = open_store()
    docs = before.vector_stores.create("docs", Access(), MODEL)
    with before.database.write() as connection:
        fresh = shape(connection)
        for table in ("batch_results", "batch_rows", "batches"):
            connection.exec_driver_sql(f"DROP TABLE {table}")
        connection.exec_driver_sql("UPDATE facts SET value = 4 WHERE name = 'schema'")

    store = open_store()

    verify(store.database)
    assert rows(store, "SELECT value FROM facts WHERE name = 'schema'") == [(SCHEMA_VERSION,)]
    with store.database.read() as connection:
        assert shape(connection) == fresh
    assert store.vector_stores.get("docs", Access()).id == docs.id
    batch = store.batches.create(NewBatch("/v1/embeddings"), Caller())
    assert store.batches.add_rows(batch, [BatchRow(0, "one", "{}", "k")]) == 1


def test_store_of_version_5_gets_what_it_lacks(database_url: str, open_store: Open) -> None:
    """It only does not find files by their content as fast; what it holds is still there."""
    before = open_store()
    docs = before.vector_stores.create("docs", Access(), MODEL)
    file = before.files.begin(docs, NewFile("/papers/a.md", "a.md", 1))
    before.documents.put(docs, file, [embedded("a.md", "Old.")], bytes_read=1)
    before.documents.finish(docs, file, fingerprint="f", keep={"a.md"}, error=None)
    with before.database.write() as connection:
        fresh = shape(connection)
        connection.exec_driver_sql("DROP INDEX files_by_fingerprint")
        connection.exec_driver_sql("UPDATE facts SET value = 5 WHERE name = 'schema'")

    store = open_store()

    verify(store.database)
    assert rows(store, "SELECT value FROM facts WHERE name = 'schema'") == [(SCHEMA_VERSION,)]
    with store.database.read() as connection:
        assert shape(connection) == fresh
    assert [found.filename for found in store.files.find_content(docs, "f")] == ["a.md"]


def test_migration_happens_once(database_url: str, open_store: Open) -> None:
    """A second opening finds the new layout and changes nothing."""
    write_version_2(database_url)
    first = open_store()
    first.vector_stores.note_activity()
    before = rows(first, "SELECT id, checksum, last_active_at FROM vector_stores ORDER BY id")

    assert rows(open_store(), "SELECT id, checksum, last_active_at FROM vector_stores ORDER BY id") == before


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE keys SET tenant = 'other' WHERE name = 'laptop'",
        "UPDATE vector_stores SET name = 'docz' WHERE tenant = ''",
        "UPDATE uploads SET filename = 'x' WHERE bytes = 6",
    ],
)
def test_damage_is_not_sealed_in(database_url: str, open_store: Open, damage: str) -> None:
    """A row that is not what was stored stops the migration, and the store stays as it was."""
    write_version_2(database_url, damage)

    for _ in range(2):
        with pytest.raises(StoreDamagedError, match="restore the store from a backup"):
            open_store()


def test_older_stores_are_refused(database_url: str, open_store: Open) -> None:
    """Version 1 is not known any more, and is left alone."""
    write_version_2(database_url, "UPDATE facts SET value = 1 WHERE name = 'schema'")

    with pytest.raises(StoreError, match=r"another version of rag-server \(schema 1"):
        open_store()
