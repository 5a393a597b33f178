"""Opens the truth store and hands out read and write transactions; database errors become StoreErrors with a remedy."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from rag_server.errors import ConfigError, StoreError
from rag_server.store.schema import metadata

BUSY_TIMEOUT_MS = 30_000
SCHEMA_VERSION = 1


class Database:
    """One SQLite file in WAL mode. A commit has reached the disk when it returns."""

    def __init__(self, url: str) -> None:
        self.url = _sqlite_url(url)
        self._engine = _open(self.url)
        with self.write() as connection:
            _check_schema_version(connection, self.url)
            metadata.create_all(connection)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection whose statements all see the same state of the store."""
        with _named_errors(self.url), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a connection in the store's only write transaction; it commits at the end, durably, or not at all."""
        with _named_errors(self.url), self._engine.execution_options(writes=True).begin() as connection:
            yield connection

    def close(self) -> None:
        """Close every pooled connection."""
        self._engine.dispose()


def _sqlite_url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError(f"RAG_DATABASE__URL: {error}") from None
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise ConfigError("RAG_DATABASE__URL: only a SQLite file is supported so far, such as sqlite:////var/lib/rag.db")
    return parsed


def _open(url: URL) -> Engine:
    try:
        # What people index is theirs alone.
        Path(str(url.database)).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot create the data directory: {error}; set RAG_DATA_DIR to a folder that can be written"
        ) from None
    engine = create_engine(url, connect_args={"check_same_thread": False})
    event.listen(engine, "connect", _configure_connection)
    event.listen(engine, "begin", _begin)
    return engine


def _configure_connection(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    # The driver's own BEGIN comes too late for a consistent read and never takes the write lock up front.
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "temp_store=MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _check_schema_version(connection: Connection, url: URL) -> None:
    found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if found not in (0, SCHEMA_VERSION):
        raise StoreError(
            f"{url.database} was written by another version of rag-server (schema {found}, this one needs {SCHEMA_VERSION}); "
            "use that version, or another RAG_DATA_DIR"
        )
    connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA_VERSION}")


@contextmanager
def _named_errors(url: URL) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise StoreError(f"{url.database}: {_explain(str(error.orig))}") from error


def _explain(reason: str) -> str:
    remedies = {
        "disk is full": "free some space and run the command again; nothing that was stored is lost",
        "readonly": "make the data directory writable, or set RAG_DATA_DIR to another one",
        "locked": "another process is writing for a long time; run the command again",
        "malformed": "the file is damaged; restore it from a backup",
        "not a database": "the file is damaged or something else; restore it, or set RAG_DATA_DIR to another folder",
        "unable to open": "check that the data directory exists and can be written",
    }
    remedy = next((text for sign, text in remedies.items() if sign in reason), "see the server's log")
    return f"{reason}; {remedy}"
