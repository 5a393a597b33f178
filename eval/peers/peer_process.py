"""A peer in an environment of its own: its process obeys commands, and some have a server beside it."""

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from eval.bench.tools import free_port
from eval.peers.adapters.commands import Load, Row
from eval.peers.over_http import HttpApi, OverHttp
from eval.peers.processes import MemoryWatch, end, peer_environment, peer_python, serving, tree_memory_mb
from eval.peers.system import HTTP, IN_PROCESS, Indexed, Searcher
from rag_server.errors import RagServerError


class PeerProcess:
    """The process of a peer, which takes orders one after the other."""

    def __init__(self, name: str, log: Path) -> None:
        """Start it.

        Raises:
            RagServerError: Its environment is not installed, or it ends at once.
        """
        self._name, self._log_path = name, log
        command = [str(peer_python(name)), "-m", f"eval.peers.adapters.{name}"]
        with log.open("ab") as errors:
            self.running = subprocess.Popen(
                command, env=peer_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )
        try:
            self.versions: dict[str, str] = self._answer()["versions"]
        except RagServerError:
            self.close()
            raise

    def close(self) -> None:
        """End it."""
        end(self.running)
        for pipe in (self.running.stdin, self.running.stdout):
            if pipe is not None:
                pipe.close()

    def order(self, what: str, **arguments: object) -> dict[str, Any]:
        """Have it done; return what it came to.

        Raises:
            RagServerError: The process ends instead.
        """
        assert self.running.stdin is not None  # noqa: S101 - it was opened as a pipe
        self.running.stdin.write(json.dumps({"do": what, **arguments}).encode() + b"\n")
        self.running.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.running.stdout is not None  # noqa: S101 - likewise
        line = self.running.stdout.readline()
        if not line:
            raise RagServerError(f"{self._name} ended with status {self.running.wait()}; why is in {self._log_path}")
        answer: dict[str, Any] = json.loads(line)
        return answer


class InProcess:
    """A peer that is searched from Python, by threads of its own process."""

    def __init__(self, process: PeerProcess) -> None:
        self._process = process

    def search(self, queries: Sequence[str], *, callers: int, seconds: float) -> Load:
        """Have its threads search."""
        return Load(**self._process.order("search", queries=list(queries), callers=callers, seconds=seconds))

    def rank(self, queries: Sequence[str], k: int) -> list[list[str]]:
        """Return the ids of the k best chunks of each query."""
        ids: list[list[str]] = self._process.order("rank", queries=list(queries), k=k)["ids"]
        return ids

    def add(self, row: Row) -> float | None:
        """Add a chunk from Python and search for it."""
        seconds: float | None = self._process.order("add", id=row.id, text=row.text)["seconds"]
        return seconds

    def memory_mb(self) -> float:
        """Return what the process takes."""
        return tree_memory_mb(psutil.Process(self._process.running.pid))


@dataclass(frozen=True, slots=True)
class PeerSystem:
    """A peer by the name of its environment; `api` speaks to its server, if it has one that answers at `ready_path`."""

    name: str
    environment: str
    api: HttpApi | None = None
    ready_path: str = "/"

    @property
    def ways(self) -> tuple[str, ...]:
        """In process, and over HTTP if it has a server."""
        return (IN_PROCESS,) if self.api is None else (IN_PROCESS, HTTP)

    def index(self, chunks_path: Path, folder: Path) -> Indexed:
        """Index in a process of its own; starting it and writing the index afterwards are no part of the seconds."""
        started = time.perf_counter()
        with self._process(folder) as process, MemoryWatch(process.running.pid) as watch:
            start_s = time.perf_counter() - started
            done = process.order("index", chunks=str(chunks_path), folder=str(folder))
        return Indexed(done["seconds"], done["num_chunks"], watch.peak_mb, process.versions, start_s)

    def open(self, folder: Path, way: str) -> AbstractContextManager[Searcher]:
        """Open the index from Python, or by the peer's server."""
        return self._in_process(folder) if way == IN_PROCESS else self._over_http(folder)

    @contextmanager
    def _in_process(self, folder: Path) -> Iterator[Searcher]:
        with self._process(folder) as process:
            process.order("load", folder=str(folder))
            yield InProcess(process)

    @contextmanager
    def _over_http(self, folder: Path) -> Iterator[Searcher]:
        assert self.api is not None  # noqa: S101 - there is no such way otherwise
        port = free_port()
        url, python = f"http://127.0.0.1:{port}", str(peer_python(self.environment))
        command = [python, "-m", f"eval.peers.adapters.{self.environment}", "serve", str(folder), str(port)]
        log = _log_path(folder)
        with serving(command, url + self.ready_path, log=log, environment=peer_environment()) as running:
            yield OverHttp(url, self.api, psutil.Process(running.pid))

    @contextmanager
    def _process(self, folder: Path) -> Iterator[PeerProcess]:
        process = PeerProcess(self.environment, _log_path(folder))
        try:
            yield process
        finally:
            process.close()


def _log_path(folder: Path) -> Path:
    return folder.parent / "log.txt"
