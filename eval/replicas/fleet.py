"""Server replicas in processes of their own, on one PostgreSQL, one Redis and one scripted engine; killed and started again."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from eval.bench.tools import free_port
from eval.postgresql import programs, running_cluster
from eval.replicas.redis_server import program, running_redis
from rag_server import factory
from rag_server.config import load_settings

POLL_S = 0.05
# Nothing here takes so long on a machine that works.
GIVE_UP_S = 120.0
# So that a stream lasts, and breaks in the middle.
ENGINE_OPTIONS = ("--time-to-first-token-s", "0.05", "--tokens-per-s", "100")
# More than the balancer's time between two looks at /ready.
NOTICE_S = 1.0


class NotInstalledError(Exception):
    """A server that the replicas need is not installed; the message says how to mend that."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all replicas use: the addresses of the database, of Redis and of the engine."""

    database_url: str
    redis_url: str
    engine_url: str


class Server:
    """One replica."""

    def __init__(self, name: str, folder: Path, shared: Shared) -> None:
        self.name = name
        self.port = free_port()
        self.log = folder / f"{name}.log"
        others = {key: value for key, value in os.environ.items() if not key.startswith("RAG_")}
        self._environment = {
            **others,
            "TMPDIR": str(folder),
            "RAG_DATA_DIR": str(folder / name),
            "RAG_DATABASE__URL": shared.database_url,
            "RAG_REDIS__URL": shared.redis_url,
            "RAG_ENGINE__BASE_URL": shared.engine_url,
            "RAG_LIMITS__SHUTDOWN_NOTICE_S": str(NOTICE_S),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; it is ready some time later."""
        command = [sys.executable, "-m", "eval.replicas.command", "serve", "--port", str(self.port)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)

    def kill(self) -> None:
        """Kill it with SIGKILL, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def ask_to_end(self) -> None:
        """Send it SIGTERM."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    @property
    def has_ended(self) -> bool:
        """Whether its process is gone."""
        return self._process is None or self._process.poll() is not None

    @property
    def is_ready(self) -> bool:
        """Whether /ready says so.

        Raises:
            RuntimeError: It has ended by itself; the message is the end of its log.
        """
        if self.has_ended:
            raise RuntimeError(f"the server {self.name} ended: {self.log.read_text()[-5000:]}")
        try:
            return httpx.get(f"{self.url}/ready", timeout=5.0, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def wait_until_ready(self) -> None:
        """Return once it is ready."""
        gives_up_at = time.monotonic() + GIVE_UP_S
        while not self.is_ready:
            if time.monotonic() > gives_up_at:
                raise RuntimeError(f"the server {self.name} did not come up: {self.log.read_text()[-5000:]}")
            time.sleep(POLL_S)


@contextmanager
def shared_services() -> Iterator[Shared]:
    """Start PostgreSQL, Redis and the engine; they end with the context.

    Raises:
        NotInstalledError: One of them is missing.
    """
    postgresql, redis = programs(), program()
    if postgresql is None:
        raise NotInstalledError("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    if redis is None:
        raise NotInstalledError("Redis is not installed (Debian: apt-get install redis-server)")
    with ExitStack() as stack:
        cluster = stack.enter_context(running_cluster(postgresql))
        database = stack.enter_context(cluster.database())
        redis_url = stack.enter_context(running_redis(redis))
        yield Shared(cluster.url(database), redis_url, stack.enter_context(_running_engine()))


@contextmanager
def running_servers(shared: Shared) -> Iterator[tuple[list[Server], str]]:
    """Run two replicas until the end of the context; give them, ready, and an API key for both."""
    # A short name: the path of a socket in it is limited.
    with tempfile.TemporaryDirectory(prefix="rag-two-", ignore_cleanup_errors=True) as name:
        servers = [Server(server, Path(name), shared) for server in ("a", "b")]
        key = _make_key(Path(name), shared)
        try:
            for server in servers:
                server.start()
            for server in servers:
                server.wait_until_ready()
            yield servers, key
        finally:
            for server in servers:
                server.kill()


def _make_key(folder: Path, shared: Shared) -> str:
    store = factory.open_store(load_settings({"RAG_DATABASE__URL": shared.database_url}, data_dir=folder / "keys"))
    try:
        return store.keys.create("replicas")[1]
    finally:
        store.database.close()


@contextmanager
def _running_engine() -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "rag_server.cli", "scripted-engine", "--port", str(port), *ENGINE_OPTIONS]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()
