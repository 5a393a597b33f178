"""Systems take turns, nobody is asked twice, and a stopped run goes on."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from eval.peers.adapters.commands import Load, Row
from eval.peers.comparison import CALLERS, WARM_UP_QUERIES, Comparison, Measured, Size
from eval.peers.corpora import Corpus
from eval.peers.records import Records
from eval.peers.system import HTTP, IN_PROCESS, Indexed

# So many searches end each load.
PER_LOAD = 7
SIZE = Size(index_rounds=2, search_rounds=2, seconds=0.1, new_documents=2)


class Told:
    """What the systems were told, in order, and what each was asked."""

    def __init__(self) -> None:
        self.turns: list[tuple[str, ...]] = []
        self.asked: dict[str, list[str]] = {"a": [], "b": []}
        self.fails_after: int | None = None


class Fake:
    """Finds chunk d1#0 for everything; each load ends after some searches."""

    ways = (IN_PROCESS, HTTP)

    def __init__(self, name: str, told: Told) -> None:
        self.name, self._told = name, told

    def index(self, chunks_path: Path, folder: Path) -> Indexed:
        self._turn("index")
        assert list(folder.iterdir()) == []
        (folder / "made").touch()
        return Indexed(2.0, 40, 100.0, {"fake": "1"}, 1.0)

    @contextmanager
    def open(self, folder: Path, way: str) -> Iterator["Fake"]:
        self._turn(way)
        assert (folder / "made").exists()
        yield self

    def search(self, queries: Sequence[str], *, callers: int, seconds: float) -> Load:
        assert seconds == SIZE.seconds
        self._told.asked[self.name] += queries[:PER_LOAD]
        return Load([1.0] * (PER_LOAD - 1), 0.5, ["broken"])

    def rank(self, queries: Sequence[str], k: int) -> list[list[str]]:
        if k == 1:
            self._told.asked[self.name] += queries
        return [["new-1#0", "d1#0", "d2#0", "d1#1"] for _ in queries]

    def add(self, row: Row) -> float | None:
        return 0.25

    def memory_mb(self) -> float:
        return 200.0

    def _turn(self, what: str) -> None:
        self._told.turns.append((self.name, what))
        if self._told.fails_after is not None and len(self._told.turns) > self._told.fails_after:
            raise KeyboardInterrupt


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    chunks = tmp_path / "chunks.jsonl"
    words = [" ".join(f"w{number}x{place}" for place in range(40)) for number in range(40)]
    chunks.write_text("".join(json.dumps({"_id": f"d{n}#0", "text": text}) + "\n" for n, text in enumerate(words)))
    corpus = Corpus("small", chunks, 40, {"q1": "what"}, {"q1": {"d1": 1}})
    return Comparison(corpus, Records(tmp_path / "figures"), SIZE, tmp_path)


def run(comparison: Comparison, told: Told) -> list[Measured]:
    return comparison.run([Fake("a", told), Fake("b", told)])


def test_systems_take_turns(comparison: Comparison, told: Told) -> None:
    """A B A B in every part, so that a slow minute of the machine is not one system's alone."""
    run(comparison, told)

    turn = [("a", "in process"), ("a", "HTTP"), ("b", "in process"), ("b", "HTTP")]
    assert told.turns == [("a", "index"), ("b", "index")] * 2 + turn * 2


def test_nobody_is_asked_twice_and_all_the_same(comparison: Comparison, told: Told) -> None:
    """No cache of a query helps, in whatever way or round, and systems are asked alike."""
    run(comparison, told)

    per_round = WARM_UP_QUERIES + len(CALLERS) * PER_LOAD
    assert len(told.asked["a"]) == len(set(told.asked["a"])) == per_round * 2 * SIZE.search_rounds
    assert told.asked["a"] == told.asked["b"]


def test_figures_are_what_was_met(comparison: Comparison, told: Told) -> None:
    """Rates count answered searches; rankings are of the corpus's documents."""
    first, _ = run(comparison, told)

    assert [record.rate for record in first.indexed] == [20.0, 20.0]
    searched = first.searched[HTTP]
    assert [record.loads[8].rate for record in searched] == [(PER_LOAD - 1) / 0.5] * 2
    assert searched[0].loads[8].failures == ["broken"]
    assert searched[0].found_s == [0.25, 0.25]
    assert [record.ranked for record in searched] == [{"q1": ["d1", "d2", "d1"]}, {}]


@pytest.mark.parametrize("turns", range(1, 12))
def test_stopped_run_goes_on(comparison: Comparison, told: Told, turns: int) -> None:
    """Whatever turn it is stopped in, only that one is taken again, and the figures are those of an unstopped run."""
    told.fails_after = turns
    with pytest.raises(KeyboardInterrupt):
        run(comparison, told)
    told.fails_after = None
    measured = run(comparison, told)

    assert len(told.turns) == 12 + 1
    assert [len(each.searched[HTTP]) for each in measured] == [2, 2]
    assert told.turns[turns] == told.turns[turns + 1]


def test_finished_run_measures_nothing(comparison: Comparison, told: Told) -> None:
    """A second run only reports."""
    run(comparison, told)
    num_turns = len(told.turns)
    run(comparison, told)
    assert len(told.turns) == num_turns


def test_fresh_run_measures_one_system_anew(comparison: Comparison, told: Told) -> None:
    """What is known of the others stays."""
    run(comparison, told)
    told.turns.clear()
    comparison.records.forget("b")
    run(comparison, told)

    assert {name for name, _ in told.turns} == {"b"}
    assert len(told.turns) == 2 + 2 * 2
