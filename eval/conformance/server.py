"""A server of its own for a check: real processes, the scripted engine, an empty data folder and a key."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from eval.bench.tools import child, free_port
from rag_server import factory
from rag_server.config import load_settings


@dataclass(frozen=True, slots=True)
class CheckedServer:
    """Where a server is, and the key that it takes."""

    url: str
    key: str

    def client(self, timeout_s: float = 60.0) -> httpx.Client:
        """Return a client that sends the key."""
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=timeout_s, trust_env=False)


@contextlib.contextmanager
def checked_server(log: Path, **overrides: str) -> Iterator[CheckedServer]:
    """Serve until the end of the context; `overrides` are settings by their names in the environment."""
    with tempfile.TemporaryDirectory() as folder, _running(Path(folder), log, overrides) as server:
        yield server


@contextlib.contextmanager
def _running(folder: Path, log: Path, overrides: Mapping[str, str]) -> Iterator[CheckedServer]:
    store = factory.open_store(load_settings({}, data_dir=folder))
    _, secret = store.keys.create("conformance")
    store.database.close()
    engine_port, port = free_port(), free_port()
    engine_url, url = f"http://127.0.0.1:{engine_port}", f"http://127.0.0.1:{port}"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAG_")}
    environment = {**inherited, "RAG_DATA_DIR": str(folder), "RAG_ENGINE__BASE_URL": f"{engine_url}/v1", **overrides}
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("wb") as written,
        child(["scripted-engine", "--port", str(engine_port)], engine_url, inherited),
        child(["serve", "--port", str(port)], url, environment, log=written),
    ):
        yield CheckedServer(url, secret)
