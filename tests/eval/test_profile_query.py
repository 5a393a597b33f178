"""The profile of a question: what is timed, and a small run against a real server."""

import pytest

from eval.bench.watching import Interval, Watch, Watched, total_s
from eval.profile_query import COUNT, EMBEDDING, FIRST_TOKEN, HEADS, MODELS, PARTS, REST, TOTAL, VECTOR_STORE, main


def test_what_overlaps_counts_once() -> None:
    """Time in which several parts work is counted once, time in which none works not at all."""
    spans = [(0.0, 2.0), (1.0, 3.0), (1.5, 1.6), (5.0, 6.0)]

    assert total_s([Interval("a", start, end) for start, end in reversed(spans)]) == pytest.approx(4.0)
    assert total_s([]) == 0.0


async def test_every_kind_of_method_is_noted() -> None:
    """Functions, coroutines and what they return are noted under their names, and of a stream the time to its first item."""

    class Inner:
        def work(self, number: int) -> int:
            return number + 1

    class Part:
        kind = "part"

        def inner(self) -> Inner:
            return Inner()

        async def awaited(self) -> str:
            return "awaited"

        async def stream(self):
            yield 1
            yield 2

    watch = Watch()
    watched = Watched(Part(), watch, {"awaited": "a", "stream": "s", "inner": "i"}, {"inner": {"work": "w"}})

    assert watched.kind == "part"
    assert await watched.awaited() == "awaited"
    assert [item async for item in watched.stream()] == [1, 2]
    assert watched.inner().work(1) == 2
    assert [one.name for one in watch.between(0.0, float("inf"))] == ["a", "s", "i", "w"]
    assert watch.between(0.0, 0.0) == []


def test_small_profile_shows_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each part, none of which is missed; a vector, a state of the log, a prompt and an answer are asked for once."""
    assert main(["--chunks", "50", "--questions", "2"]) == 0

    rows = {line[:42].strip(): line[42:].split() for line in capsys.readouterr().out.splitlines() if line[42:].split()}
    assert set(rows) >= {*PARTS, REST, TOTAL}
    assert [part for part in PARTS if rows[part][0] == "0"] == []
    for part in (VECTOR_STORE, HEADS, EMBEDDING, COUNT, FIRST_TOKEN):
        assert rows[part][0] == "1", part
    assert rows[MODELS][0] == "2"
    total_ms = float(rows[TOTAL][2])
    assert 0 < float(rows[EMBEDDING][2]) < total_ms
    assert 0 < float(rows[REST][2]) < total_ms
