"""What runs in a peer's environment: loads, orders, and a channel that nothing else gets into."""

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from eval.peers.adapters.commands import Row, closed_loop, obey, seconds_until_found


class Words:
    """Finds the rows that share a word with the query; remembers what it was asked."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.asked: list[str] = []
        self._lock = threading.Lock()
        self.meet: threading.Barrier | None = None

    def index(self, rows: Sequence[Row]) -> None:
        self.rows = list(rows)

    def save(self, folder: Path) -> None:
        (folder / "rows.json").write_text(json.dumps(self.rows))

    def load(self, folder: Path) -> None:
        self.rows = [Row(*row) for row in json.loads((folder / "rows.json").read_text())]

    def add(self, row: Row) -> None:
        self.rows.append(row)

    def search(self, query: str, k: int) -> list[str]:
        with self._lock:
            self.asked.append(query)
        if self.meet is not None:
            self.meet.wait(10)
        if query == "broken":
            raise ValueError("out of order")
        return [row.id for row in self.rows if set(query.split()) & set(row.text.split())][:k]


@pytest.fixture
def peer() -> Words:
    words = Words()
    words.index([Row("a#0", "cats sleep"), Row("b#0", "boats float")])
    return words


def test_load_asks_each_query_once(peer: Words) -> None:
    """Callers share the queries; when there are none left, the load ends before its time."""
    load = closed_loop(peer, [f"cats {number}" for number in range(50)], callers=4, seconds=60)

    assert sorted(peer.asked) == sorted(f"cats {number}" for number in range(50))
    assert len(load.latencies_ms) == 50
    assert 0 < load.seconds < 60
    assert load.failures == []


def test_callers_search_at_once(peer: Words) -> None:
    """With three callers three searches run at the same time: each waits here until all have come."""
    peer.meet = threading.Barrier(3)

    load = closed_loop(peer, ["cats 1", "cats 2", "cats 3"], callers=3, seconds=60)

    assert len(load.latencies_ms) == 3


def test_failed_searches_are_told_and_not_counted(peer: Words) -> None:
    """A search that raises, or finds nothing, is no answered search."""
    load = closed_loop(peer, ["broken", "cats", "unheard-of"], callers=1, seconds=60)

    assert len(load.latencies_ms) == 1
    assert load.failures == ["ValueError: out of order", "nothing was found"]


def test_load_ends_in_time(peer: Words) -> None:
    """After its seconds no query is asked any more."""
    load = closed_loop(peer, ["cats"] * 1000, callers=2, seconds=0)

    assert (load.latencies_ms, peer.asked) == ([], [])


def test_new_chunk_is_added_and_found(peer: Words) -> None:
    """The time is that until a search for its text finds it."""
    seconds = seconds_until_found(peer, Row("c#0", "tea is hot"))

    assert seconds is not None
    assert peer.asked == ["tea is hot"]


def test_orders_index_save_load_and_rank(peer: Words, tmp_path: Path) -> None:
    """What one process indexed and saved another one loads."""
    chunks = tmp_path / "chunks.jsonl"
    chunks.write_text('{"_id": "d#0", "text": "green tea"}\n{"_id": "e#1", "text": "tea time"}\n')

    indexed = obey(Words(), {"do": "index", "chunks": str(chunks), "folder": str(tmp_path)})
    assert indexed["num_chunks"] == 2
    obey(peer, {"do": "load", "folder": str(tmp_path)})
    ranked = obey(peer, {"do": "rank", "queries": ["tea", "green"], "k": 5})

    assert ranked == {"ids": [["d#0", "e#1"], ["d#0"]]}


def test_unknown_order_is_refused(peer: Words) -> None:
    """A typo is no order."""
    with pytest.raises(ValueError, match="no such order"):
        obey(peer, {"do": "dance"})


def test_answers_are_alone_on_standard_output() -> None:
    """What a library prints goes to standard error, so that every line of standard output is an answer."""
    program = (
        "from eval.peers.adapters import commands\n"
        "class Noisy:\n"
        "    def search(self, query, k):\n"
        "        print('progress 50 %')\n"
        "        return [query]\n"
        "commands.SHARED = ('numpy',)\n"
        "commands.main(Noisy, distributions=())\n"
    )
    order = json.dumps({"do": "rank", "queries": ["x"], "k": 1}) + "\n"
    done = subprocess.run([sys.executable, "-c", program], input=order, capture_output=True, text=True, timeout=60)

    hello, answer = map(json.loads, done.stdout.splitlines())
    assert list(hello["versions"]) == ["numpy"]
    assert answer == {"ids": [["x"]]}
    assert "progress 50 %" in done.stderr
