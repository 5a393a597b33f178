"""A small kill test of a batch finds nothing, and its checks find what was broken on purpose."""

import itertools
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import delete

from eval.batch_crash.check import Output, check_kept, check_store, compare
from eval.batch_crash.plan import ENGINE, PROCESS, STARTING, VALKEY, draw_kills, is_refused, make_rows
from eval.batch_crash_test import print_report, run_test
from rag_server import factory
from rag_server.batch_types import Batch, BatchRow, NewBatch, RowResult
from rag_server.config import load_settings
from rag_server.store.batch_schema import batch_results
from rag_server.store.batch_table import change_batch
from rag_server.types import Caller


def test_no_row_is_lost_or_there_twice_after_five_kills(capsys: pytest.CaptureFixture[str]) -> None:
    """The process, its engine and its Valkey are killed; in the end each row is there once, as if nothing had been."""
    report = run_test(5, 40, seed=3)
    print_report(report)

    assert report.faults == []
    assert report.kills == {VALKEY: 1, ENGINE: 2, PROCESS: 2}
    assert report.num_results == 40
    assert "kills of the engine" in capsys.readouterr().out


def test_kills_are_drawn_from_the_seed_and_spread_over_the_job() -> None:
    """The same seed kills at the same points; every victim has its turn, from the first answers to the last."""
    kills = list(draw_kills(100, 490, random.Random(5)))

    assert kills == list(draw_kills(100, 490, random.Random(5)))
    assert kills != list(draw_kills(100, 490, random.Random(6)))
    assert Counter(kill.victim for kill in kills) == {PROCESS: 29, STARTING: 14, ENGINE: 28, VALKEY: 29}
    assert kills[0].answers < 49
    assert kills[-1].answers == 489
    assert all(one.answers <= other.answers for one, other in itertools.pairwise(kills))
    assert all(other.victim != STARTING or one.victim == PROCESS for one, other in itertools.pairwise(kills))


def test_the_job_holds_rows_of_every_kind() -> None:
    """Rows that are alike, rows that are sampled and rows that fail are among the others, and all have names of their own."""
    rows = make_rows(500, random.Random(1))
    asked = Counter(json.dumps({name: value for name, value in row.items() if name != "id"}) for row in rows)

    assert len({row["id"] for row in rows}) == 500
    assert sum(is_refused(row) for row in rows) == 10
    assert sum(row.get("temperature") == 0.5 for row in rows) == 40
    assert sum(count == 2 for count in asked.values()) >= 40


def _output(rows: dict[str, str]) -> Output:
    lines = [json.dumps({"id": id_, "answer": answer, "timings_ms": {}}) for id_, answer in rows.items()]
    return Output("".join(f"{line}\n" for line in lines).encode(), b'{"id": "z", "error": {"code": "c"}}\n')


def test_missing_double_and_other_rows_are_found() -> None:
    """Whatever is not as in the undisturbed output is reported as what it is; timings are nobody's fault."""
    whole = _output({"a": "1", "b": "2", "c": "3"})
    others = replace(whole, answers=whole.answers.replace(b'"timings_ms": {}', b'"timings_ms": {"retrieve": 5}'))
    double = replace(whole, answers=whole.answers + whole.answers.splitlines(keepends=True)[0])

    assert compare(others, whole) == []
    assert compare(_output({"c": "3", "a": "1"}), whole) == [("missing", "b")]
    assert compare(_output({"a": "1", "b": "4", "c": "3", "d": "5"}), whole) == [("differing", "b"), ("differing", "d")]
    assert compare(double, whole) == [("duplicates", "a is there 2 times")]
    assert compare(replace(whole, errors=b""), whole) == [("missing", "z")]
    assert compare(replace(whole, errors=whole.errors * 2), whole) == [("duplicates", "z is there 2 times")]


def test_an_answer_that_was_written_may_not_change() -> None:
    """What stood in the output at a kill is what it begins with in the end."""
    assert check_kept(b"a\nb\nc\n", [b"", b"a\n", b"a\nb\n"]) == []
    assert check_kept(b"b\na\nc\n", [b"a\n", b"b\na\n"]) == [("rewritten", "the 1 answers after a kill")]


Break = Callable[[factory.Store, Batch], None]


def _forget_result(store: factory.Store, batch: Batch) -> None:
    with store.database.write() as connection:
        connection.execute(delete(batch_results).where(batch_results.c.number == 1))


def _miscount(store: factory.Store, batch: Batch) -> None:
    with store.database.write() as connection:
        change_batch(connection, batch, completed=2)


@pytest.mark.parametrize(("break_it", "num_faults"), [(lambda *_: None, 0), (_forget_result, 1), (_miscount, 1)])
def test_a_result_that_is_not_recorded_is_found(tmp_path: Path, break_it: Break, num_faults: int) -> None:
    """Each row has one recorded result, and the batch counts them."""
    store = factory.open_store(load_settings({}, data_dir=tmp_path))
    batch = store.batches.create(NewBatch("/v1/embeddings", expires_after_s=None), Caller())
    store.batches.add_rows(batch, [BatchRow(number, f"r{number}", "{}", str(number)) for number in range(3)])
    batch = store.batches.take(store.batches.begin(batch))
    store.batches.record(batch, [RowResult(number, 200, "{}") for number in range(3)])
    batch = store.batches.finish(store.batches.finalize(batch), "completed")
    break_it(store, batch)

    assert len(check_store(store.batches, store.batches.fresh(batch), 3)) == num_faults
    store.database.close()
