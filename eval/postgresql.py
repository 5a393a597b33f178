"""A PostgreSQL cluster of a test's own, from the system's packages, thrown away at the end."""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

START_TIMEOUT_S = 60.0
# A role that is asked for its password; every other one is let in.
GUARDED = "guarded"
# What is written at the end must not wait for a disk that nobody reads again.
OPTIONS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "listen_addresses=", "max_connections=200")


class Cluster:
    """A running server, reached over a socket in its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def url(self, database: str, user: str = "rag") -> str:
        """The address of a database as rag-server is told it."""
        return f"postgresql://{user}@/{database}?host={self._folder}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement by hand."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """A database for the length of the context; give its name. It sorts as people do, not by code point."""
        name = f"test_{secrets.token_hex(6)}"
        has_icu = int(self.execute("SHOW server_version_num")[0][0]) >= 150000
        locale = " LOCALE_PROVIDER icu ICU_LOCALE 'en'" if has_icu else ""
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0{locale}")
        try:
            yield name
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")


def programs() -> Path | None:
    """The folder of initdb and postgres, which Debian keeps out of the PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(folders) if (folder / "initdb").exists()), None)


@contextlib.contextmanager
def running_cluster(bin_folder: Path) -> Iterator[Cluster]:
    """Start a server in a new folder, as another user where this one is root; it ends with this process."""
    folder = Path(tempfile.mkdtemp(prefix="rag-pg-"))
    prefix: list[str] = []
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        prefix = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", "--pdeathsig=QUIT"]
    data = folder / "data"
    make = [str(bin_folder / "initdb"), "-D", str(data), "-U", "rag", "--auth=trust", "--encoding=UTF8", "--locale=C", "-N"]
    subprocess.run([*prefix, *make], check=True, capture_output=True, cwd=folder)
    access = data / "pg_hba.conf"
    access.write_text(f"local all {GUARDED} scram-sha-256\n{access.read_text()}")
    start = [str(bin_folder / "postgres"), "-D", str(data), "-k", str(folder), *(f"-c{option}" for option in OPTIONS)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*prefix, *start], stdout=log, stderr=log, cwd=folder)
    try:
        cluster = Cluster(folder)
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                cluster.execute(f"CREATE ROLE {GUARDED} LOGIN PASSWORD 'right'")
                break
            except psycopg.OperationalError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"PostgreSQL did not start: {(folder / 'log').read_text()}") from None
                time.sleep(0.05)
        yield cluster
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)
