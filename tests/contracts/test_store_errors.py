"""A store that cannot be used says so by name, with what to do, and loses nothing that was stored."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio.to_thread
import pytest
from sqlalchemy import text

from eval.postgresql import GUARDED, Cluster
from rag_server import factory
from rag_server.config import load_settings
from rag_server.errors import ConfigError, StoreError
from rag_server.factory import Store
from rag_server.store import database as database_module
from rag_server.store.database import Database
from rag_server.types import Access, Cursor, NewFile
from tests.stores import MODEL, embedded

NOBODY = 65534


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Root may write everywhere; for the length of the context this process is not root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everyone can reach, unlike pytest's own."""
    made = Path(tempfile.mkdtemp(prefix="rag-store-"))
    made.chmod(0o777)
    yield made
    shutil.rmtree(made)


def test_folder_that_cannot_be_written_is_named(folder: Path) -> None:
    """A data directory without the right to write says to set another one."""
    folder.chmod(0o555)

    with unprivileged(), pytest.raises(StoreError, match="data directory") as raised:
        factory.open_store(load_settings({}, data_dir=folder))
    assert str(folder) in str(raised.value)
    with unprivileged(), pytest.raises(StoreError, match="RAG_DATA_DIR"):
        factory.open_store(load_settings({}, data_dir=folder / "new"))


def test_file_that_cannot_be_written_is_named(folder: Path) -> None:
    """A database that became read-only says so, and can still be read."""
    factory.open_store(load_settings({}, data_dir=folder)).database.close()
    (folder / "rag.db").chmod(0o444)

    with unprivileged():
        store = factory.open_store(load_settings({}, data_dir=folder))
        assert store.vector_stores.list(Access()) == []
        with pytest.raises(StoreError, match="make the data directory writable"):
            store.vector_stores.create("docs", Access(), MODEL)
    store.database.close()


def test_locked_database_is_named_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program that holds the lock is waited for, and then named; afterwards everything goes on."""
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_MS", 200)
    store = factory.open_store(load_settings({}, data_dir=tmp_path))
    with contextlib.closing(sqlite3.connect(tmp_path / "rag.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="another process is writing"):
            store.vector_stores.create("docs", Access(), MODEL)
        assert store.vector_stores.list(Access()) == []
        other.execute("ROLLBACK")

    store.vector_stores.create("docs", Access(), MODEL)
    store.database.close()


def test_full_disk_is_named_and_loses_nothing(tmp_path: Path) -> None:
    """When nothing more fits, storing fails with the remedy; what was there is there, and goes on once there is room."""
    store = factory.open_store(load_settings({}, data_dir=tmp_path))
    docs = store.vector_stores.create("docs", Access(), MODEL)
    file = store.files.begin(docs, NewFile("/f", "f", 1))
    store.documents.put(docs, file, [embedded("a", "One.")], bytes_read=0)

    def allow(pages: int) -> None:
        with store.database.read() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    allow(1)
    with pytest.raises(StoreError, match="free some space"):
        store.documents.put(docs, file, [embedded("b", "x" * 200_000)], bytes_read=0)
    assert [chunk.text for chunk in store.log.read(docs, Cursor(), 9).added] == ["One."]
    allow(100_000)
    store.documents.put(docs, file, [embedded("b", "Two.")], bytes_read=0)
    assert [chunk.text for chunk in store.log.read(docs, Cursor(), 9).added] == ["One.", "Two."]
    store.database.close()


def test_connections_that_are_all_in_use_are_named(open_store: Callable[[], Store], monkeypatch: pytest.MonkeyPatch) -> None:
    """On either database a thread that gets no connection is told so after a while; afterwards everything goes on."""
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_MS", 100)
    monkeypatch.setattr(database_module, "MAX_CONNECTIONS", 2)
    store = open_store()
    with store.database.read(), store.database.read():
        for call in (lambda: store.vector_stores.list(Access()), lambda: store.vector_stores.create("docs", Access(), MODEL)):
            with pytest.raises(StoreError, match="all 2 connections are in use"):
                call()

    assert store.vector_stores.create("docs", Access(), MODEL).name == "docs"


def test_every_thread_of_a_server_gets_a_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as asyncio, what streams contents, and the looking up of keys have, all at once."""
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_MS", 100)

    async def num_streaming() -> int:
        return int(anyio.to_thread.current_default_thread_limiter().total_tokens)

    store = factory.open_store(load_settings({}, data_dir=tmp_path))
    with contextlib.ExitStack() as reading:
        for _ in range(32 + asyncio.run(num_streaming()) + 2):
            assert reading.enter_context(store.database.read()).scalar(text("SELECT 1")) == 1
    store.database.close()


def test_store_of_another_version_is_refused(open_store: Callable[[], Store]) -> None:
    """What a later version wrote is left alone, on either database."""
    store = open_store()
    with store.database.write() as connection:
        connection.execute(text("UPDATE facts SET value = 99 WHERE name = 'schema'"))

    with pytest.raises(StoreError, match=r"another version of rag-server \(schema 99"):
        open_store()


def test_database_of_another_program_is_left_alone(postgresql_url: str, postgresql: Cluster) -> None:
    """A PostgreSQL database that holds something else gets no tables."""
    name = postgresql_url.rpartition("?")[0].rpartition("/")[2]
    postgresql.execute("CREATE TABLE precious (id int)", name)

    with pytest.raises(StoreError, match="schema unknown"):
        Database(postgresql_url)
    tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
    assert postgresql.execute(tables, name) == [("precious",)]


@pytest.mark.parametrize("address", ["127.0.0.1:9/rag", "/rag?host={folder}"])
def test_postgresql_that_is_not_running_is_named(tmp_path: Path, address: str) -> None:
    """Nobody at the address says to start PostgreSQL; a password in the address is not repeated."""
    where = address.format(folder=tmp_path)

    with pytest.raises(StoreError, match="start PostgreSQL, or correct RAG_DATABASE__URL") as raised:
        Database(f"postgresql://rag:sesame@{where}")
    assert "sesame" not in str(raised.value)


def test_wrong_password_and_missing_database_are_named(postgresql: Cluster) -> None:
    """A wrong password says to correct it, without repeating it; a database that is not there is named."""
    url = postgresql.url("postgres", user=f"{GUARDED}:wrong")
    with pytest.raises(StoreError, match="correct the user or password") as raised:
        Database(url)
    assert "wrong" not in str(raised.value)

    with pytest.raises(StoreError, match='"none" does not exist'):
        Database(postgresql.url("none"))


def test_postgresql_that_goes_away_is_named_and_comes_back(postgresql_url: str, postgresql: Cluster) -> None:
    """A connection that PostgreSQL cut off is made anew."""
    store = factory.open_store(load_settings({"RAG_DATABASE__URL": postgresql_url}))
    store.vector_stores.create("docs", Access(), MODEL)
    name = postgresql_url.rpartition("?")[0].rpartition("/")[2]
    postgresql.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

    assert [found.name for found in store.vector_stores.list(Access())] == ["docs"]
    store.database.close()


@pytest.mark.parametrize("url", ["mysql://host/db", "sqlite://", "nonsense"])
def test_database_of_no_known_kind_names_the_setting(url: str) -> None:
    """A setting that cannot be meant is refused with examples."""
    with pytest.raises(ConfigError, match="RAG_DATABASE__URL"):
        Database(url)
