"""rag-server in the comparison, by its public commands and over HTTP alone."""

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from eval.bench.tools import free_port
from eval.peers.adapters.commands import SHARED, Row
from eval.peers.over_http import OverHttp
from eval.peers.processes import QUIET, ROOT, MemoryWatch, serving
from eval.peers.system import HTTP, HTTP_VECTORS, Indexed, Searcher
from rag_server import __version__
from rag_server.errors import RagServerError
from rag_server.protocols import Json

COLLECTION = "bench"
PROGRAM = (sys.executable, "-m", "rag_server.cli")


@dataclass(frozen=True, slots=True)
class OwnApi:
    """The search endpoint, and uploads; `rag` are options of a search."""

    rag: Json

    def request(self, query: str, k: int) -> tuple[str, Json]:
        """Return a search of the collection."""
        return f"/v1/vector_stores/{COLLECTION}/search", {"query": query, "max_num_results": k, **self.rag}

    def ids(self, answer: Any) -> list[str]:
        """Return the documents of the results: each chunk was a document."""
        return [str(result["attributes"]["document_id"]) for result in answer["data"] if result["content"]]

    def add(self, client: httpx.Client, row: Row) -> None:
        """Upload a file and attach it; it is indexed in the background."""
        content = json.dumps({"_id": row.id, "text": row.text}).encode()
        files = {"file": ("new.jsonl", content)}
        uploaded = client.post("/v1/files", files=files, data={"purpose": "assistants"}).raise_for_status().json()
        client.post(f"/v1/vector_stores/{COLLECTION}/files", json={"file_id": uploaded["id"]}).raise_for_status()


class OwnSystem:
    """`rag-server index` and `rag-server serve` with a folder of data of their own."""

    name = "rag-server"
    ways = (HTTP, HTTP_VECTORS)

    def index(self, chunks_path: Path, folder: Path) -> Indexed:
        """Index by the command; of its seconds those that it takes for a single chunk, in another folder, are its start.

        Raises:
            RagServerError: It fails, or does not make one chunk of each row.
        """
        with tempfile.TemporaryDirectory() as elsewhere:
            one = Path(elsewhere) / "one.jsonl"
            with chunks_path.open(encoding="utf-8") as chunks:
                one.write_text(chunks.readline(), encoding="utf-8")
            start_s, _, _ = _index(one, Path(elsewhere) / "data", folder.parent / "log.txt")
        seconds, num_chunks, peak_mb = _index(chunks_path, folder, folder.parent / "log.txt")
        with chunks_path.open("rb") as chunks_file:
            num_rows = sum(1 for _ in chunks_file)
        if num_chunks != num_rows:
            raise RagServerError(f"of {num_rows} rows {num_chunks} chunks were made: not the same chunks as the peers'")
        versions = {name: importlib.metadata.version(name) for name in SHARED}
        # Of a run so short that the two differ by chance, at most half.
        start_s = min(start_s, seconds / 2)
        return Indexed(seconds - start_s, num_chunks, peak_mb, {"rag-server": __version__, **versions}, start_s)

    @contextmanager
    def open(self, folder: Path, way: str) -> Iterator[Searcher]:
        """Serve the folder, beside an engine that is never asked."""
        engine_port, port = free_port(), free_port()
        engine_url, url = f"http://127.0.0.1:{engine_port}", f"http://127.0.0.1:{port}"
        environment = {**_environment(folder), "RAG_ENGINE__BASE_URL": f"{engine_url}/v1"}
        engine = [*PROGRAM, "scripted-engine", "--port", str(engine_port)]
        server = [*PROGRAM, "serve", "--port", str(port)]
        log = folder.parent / "log.txt"
        rag: Json = {"rag": {"retrieve": "dense"}} if way == HTTP_VECTORS else {}
        with (
            serving(engine, f"{engine_url}/health", log=log, environment=environment),
            serving(server, f"{url}/ready", log=log, environment=environment) as running,
        ):
            yield OverHttp(url, OwnApi(rag), psutil.Process(running.pid))


def _index(path: Path, folder: Path, log: Path) -> tuple[float, int, float]:
    """Index the file into the folder; return the seconds, the chunks and the most memory in MB."""
    command = [*PROGRAM, "index", str(path), "--collection", COLLECTION, "--json"]
    started = time.perf_counter()
    with log.open("ab") as errors:
        running = subprocess.Popen(command, env=_environment(folder), cwd=ROOT, stdout=subprocess.PIPE, stderr=errors)
        with MemoryWatch(running.pid) as watch:
            output, _ = running.communicate()
    seconds = time.perf_counter() - started
    if running.returncode != 0:
        raise RagServerError(f"rag-server index failed; why is in {log}")
    return seconds, int(json.loads(output)["num_chunks"]), watch.peak_mb


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, **QUIET, "RAG_DATA_DIR": str(folder)}
