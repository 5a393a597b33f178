"""Opens the truth store and hands out read and write transactions; database errors become StoreErrors with a remedy."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, inspect, make_url, select, text, update
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry

from rag_server.errors import ConfigError, InvalidRequestError, StoreDamagedError, StoreError
from rag_server.store.commit_count import CommitCount
from rag_server.store.migration import SCHEMA_VERSION, migrate
from rag_server.store.schema import facts, metadata

log = structlog.get_logger()

BUSY_TIMEOUT_MS = 30_000
# Above the number of threads that a server reads and writes with: 32 of asyncio's, 40 that send contents, 2 that look up keys.
MAX_CONNECTIONS = 80
# Of them, so many stay open when they are not used.
MAX_IDLE_CONNECTIONS = 16
# Any constant that no other program on the server uses.
POSTGRESQL_WRITE_LOCK = 0x7261675F
# Structure is checked at every start up to this size; `rag-server doctor` checks larger ones.
MAX_BYTES_CHECKED_AT_START = 256 * 1024**2


class Database:
    """SQLite in WAL mode, or PostgreSQL. A commit has reached the disk when it returns; there is one writer at a time."""

    def __init__(self, url: str) -> None:
        self.url = _checked(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        # Once set, nothing is read or written any more.
        self.damage: str | None = None
        self._engine = _open(self.url)
        self._reading = self._engine if self.is_sqlite else self._engine.execution_options(isolation_level="REPEATABLE READ")
        self._commits = CommitCount(self.path.with_name(f"{self.path.name}.commits")) if self.is_sqlite else None
        try:
            with _named_errors(self.url):
                self._prepare()
        except BaseException:
            self.close()
            raise

    @property
    def path(self) -> Path:
        """The SQLite file."""
        return Path(str(self.url.database))

    @property
    def name(self) -> str:
        """What messages call it; without a password."""
        return _name(self.url)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection whose statements all see the same state of the store."""
        self._check_usable()
        with _named_errors(self.url), self._reading.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a connection in the store's only write transaction; it commits at the end, durably, or not at all."""
        self._check_usable()
        with _named_errors(self.url):
            with self._as_only_writer() as connection:
                yield connection
                statement = update(facts).where(facts.c.name == "commits").values(value=facts.c.value + 1)
                count = connection.execute(statement.returning(facts.c.value)).scalar_one()
            if self._commits is not None:
                self._commits.write(count)

    def close(self) -> None:
        """Close every pooled connection."""
        self._engine.dispose()
        if self._commits is not None:
            self._commits.close()

    @contextmanager
    def _as_only_writer(self) -> Iterator[Connection]:
        with self._engine.execution_options(writes=True).begin() as connection:
            if not self.is_sqlite:
                # Ids are given out before they are committed; a second writer could commit a smaller one later.
                connection.execute(text(f"SELECT pg_advisory_xact_lock({POSTGRESQL_WRITE_LOCK})"))
            yield connection

    def _check_usable(self) -> None:
        if self.damage is not None:
            raise StoreDamagedError(self.damage)

    def _prepare(self) -> None:
        """Make the tables, or check that those that are there are ours and whole."""
        with self._as_only_writer() as connection:
            if self.is_sqlite and self.path.stat().st_size <= MAX_BYTES_CHECKED_AT_START:
                check_structure(connection, self.name)
            if not inspect(connection).get_table_names():
                metadata.create_all(connection)
                connection.execute(
                    insert(facts), [{"name": "schema", "value": SCHEMA_VERSION}, {"name": "commits", "value": 0}]
                )
            self._check_facts(connection)

    def _check_facts(self, connection: Connection) -> None:
        known = inspect(connection).has_table("facts")
        found: dict[str, int] = {row.name: row.value for row in connection.execute(select(facts))} if known else {}
        # Whatever a damaged or foreign log would bring is looked at before anything is rewritten.
        if self._commits is not None and known:
            self._commits.check(found.get("commits", 0), self.path)
        if known and migrate(connection, found.get("schema")):
            log.info("the store was brought to the layout of this version", store=self.name, schema=SCHEMA_VERSION)
        elif found.get("schema") != SCHEMA_VERSION:
            raise StoreError(
                f"{self.name} was written by another version of rag-server (schema {found.get('schema', 'unknown')}, this one "
                f"needs {SCHEMA_VERSION}); use that version, or another RAG_DATA_DIR and index again"
            )


def check_structure(connection: Connection, name: str) -> None:
    """Raise StoreDamagedError if SQLite finds its file malformed."""
    found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    if found != "ok":
        raise StoreDamagedError(f"{name} is damaged ({found}); restore it from a backup")


def _checked(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError(f"RAG_DATABASE__URL: {error}") from None
    if parsed.get_backend_name() == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise ConfigError(
            "RAG_DATABASE__URL: name a SQLite file, such as sqlite:////var/lib/rag.db, "
            "or a PostgreSQL database, such as postgresql://user:password@host/rag"
        )
    return parsed


def _name(url: URL) -> str:
    return str(url.database) if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)


def _open(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        return _open_sqlite(url)
    try:
        return create_engine(url, pool_pre_ping=True, **_pool())
    except (ImportError, NoSuchModuleError) as error:
        raise ConfigError(f"RAG_DATABASE__URL: the PostgreSQL driver is missing ({error}); run `make install`") from None


def _pool() -> dict[str, Any]:
    kept = min(MAX_IDLE_CONNECTIONS, MAX_CONNECTIONS)
    return {"pool_size": kept, "max_overflow": MAX_CONNECTIONS - kept, "pool_timeout": BUSY_TIMEOUT_MS / 1000}


def _open_sqlite(url: URL) -> Engine:
    try:
        # What people index is theirs alone.
        Path(str(url.database)).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot create the data directory: {error}; set RAG_DATA_DIR to a folder that can be written"
        ) from None
    engine = create_engine(url, connect_args={"check_same_thread": False}, **_pool())
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


# What the database says, and what to do about it.
REMEDIES = {
    "disk is full": "free some space and run the command again; nothing that was stored is lost",
    "no space left": "free some space and run the command again; nothing that was stored is lost",
    "readonly": "make the data directory writable, or set RAG_DATA_DIR to another one",
    "read-only": "make it writable, or name another one",
    "locked": "another process is writing for a long time; run the command again",
    "unable to open": "check that the data directory exists and can be written",
    "password": "correct the user or password in RAG_DATABASE__URL",
    "connection": "start PostgreSQL, or correct RAG_DATABASE__URL",
}
# As psycopg says it.
NUL_REFUSED = "cannot contain NUL (0x00) bytes"
DAMAGED = (
    "malformed",
    "not a database",
    "disk i/o error",
    "no such table",
    "no such column",
    "malformed database schema",
    "could not decode",
)


@contextmanager
def _named_errors(url: URL) -> Iterator[None]:
    try:
        yield
    # The driver decodes the message that quotes the damaged bytes.
    except UnicodeDecodeError as error:
        raise StoreDamagedError(f"{url.database}: {error}; the file is damaged: restore it from a backup") from error
    # What no database stores came from a client: half of a surrogate pair, or NUL in PostgreSQL.
    except UnicodeEncodeError as error:
        raise InvalidRequestError("a text of the request holds half of a surrogate pair, which cannot be stored") from error
    except PoolTimeoutError as error:
        raise StoreError(f"{_name(url)}: all {MAX_CONNECTIONS} connections are in use for a long time; try again") from error
    except DBAPIError as error:
        if NUL_REFUSED in str(error.orig):
            raise InvalidRequestError("a text of the request holds a NUL character, which cannot be stored") from error
        name = _name(url)
        reason = " ".join(str(error.orig).split())
        lowered = reason.lower()
        if any(sign in lowered for sign in DAMAGED):
            raise StoreDamagedError(
                f"{name}: {reason}; the file is damaged or something else: restore it from a backup"
            ) from error
        remedy = next((remedy for sign, remedy in REMEDIES.items() if sign in lowered), "see the server's log")
        raise StoreError(f"{name}: {reason}; {remedy}") from error
