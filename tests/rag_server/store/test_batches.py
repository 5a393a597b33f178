"""Batches in either database: each row gets one result, from the process that holds the lease, and nothing is lost."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rag_server.batch_types import (
    COMPLETION_WINDOW_S,
    Batch,
    BatchEndedError,
    BatchError,
    BatchRow,
    BatchUsage,
    LeaseLostError,
    NewBatch,
    RowError,
    RowResult,
)
from rag_server.errors import InvalidRequestError, NotFoundError
from rag_server.factory import Store
from rag_server.store.batch_leases import LEASE_S
from rag_server.store.expiry import remove_expired
from rag_server.store.verification import verify
from rag_server.types import Access, Caller, Page
from tests.stores import rows

Open = Callable[[], Store]
CHAT = "/v1/chat/completions"
BAD = RowError("invalid_row", "It is wrong.")
LATE = RowError("batch_expired", "Too late.")
NONE_USED = BatchUsage()


@dataclass
class Clock:
    """What `time.time` answers."""

    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        self.now += 1e-6
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    return clock


def new_rows(*numbers: int, error: RowError | None = None) -> list[BatchRow]:
    return [BatchRow(number, f"row-{number}", f'{{"n": {number}}}', f"key-{number % 3}", error) for number in numbers]


def answer(number: int, text: str = "{}", status: int = 200, usage: BatchUsage = NONE_USED) -> RowResult:
    return RowResult(number, status, text, f"req_{number}", None, usage)


def running(store: Store, num_rows: int, *, tenant: str = "", **fields: object) -> Batch:
    """A batch of a file whose rows are there, leased by the store's process."""
    fields = {"input_file_id": "file-1"} | fields
    batch = store.batches.create(NewBatch(CHAT, **fields), Caller(Access(tenant)))
    store.batches.add_rows(batch, new_rows(*range(num_rows)))
    store.batches.begin(batch)
    leased = store.batches.lease()
    assert leased is not None
    assert leased.id == batch.id
    return leased


def counts(batch: Batch) -> tuple[int, int, int]:
    return batch.total, batch.completed, batch.failed


def test_a_batch_is_as_it_was_made(open_store: Open, clock: Clock) -> None:
    """Who made it, what it is of and when it is over are read back by another process."""
    caller = Caller(Access("acme", frozenset({"b", "a"})), "key_1", frozenset({"ask"}))
    new = NewBatch("/v1/embeddings", input_file_id="file-1", metadata={"a": "b"}, output_expires_after_s=3600)

    made = open_store().batches.create(new, caller)

    found = open_store().batches.get(made.id, caller.access)
    assert found == made
    assert made.caller == caller
    assert (made.status, made.endpoint, made.input_file_id, made.metadata) == (
        "validating",
        "/v1/embeddings",
        "file-1",
        {"a": "b"},
    )
    assert (made.created_at, made.expires_at) == (int(clock.now), int(clock.now) + COMPLETION_WINDOW_S)
    assert counts(made) == (0, 0, 0)


def test_batches_of_others_are_not_there(open_store: Open) -> None:
    """Another tenant, and a key with other principals, find, list and cancel nothing."""
    batches = open_store().batches
    anns = Caller(Access("acme", frozenset({"ann"})))
    made = batches.create(NewBatch(CHAT, input_file_id="file-1", fingerprint="x"), anns)

    for access in (Access(), Access("globex"), Access("acme", frozenset({"bob"})), Access("acme", frozenset({"ann", "bob"}))):
        with pytest.raises(NotFoundError, match=made.id):
            batches.get(made.id, access)
        with pytest.raises(NotFoundError, match=made.id):
            batches.cancel(made.id, access)
        assert batches.page(access, Page()) == ([], False)
        assert batches.find("x", access) is None
    assert batches.get(made.id, Access("acme")) == batches.get(made.id, anns.access) == made


def test_batches_of_the_command_line_are_not_shown(open_store: Open) -> None:
    """Without a file a batch is found by its fingerprint alone; making it again gives the same one."""
    batches = open_store().batches
    new = NewBatch(CHAT, kind="questions", fingerprint="x", expires_after_s=None)
    made = batches.create(new, Caller())
    batches.add_rows(made, new_rows(0))

    with pytest.raises(NotFoundError):
        batches.get(made.id, Access())
    assert batches.page(Access(), Page()) == ([], False)
    assert made.expires_at is None
    again = batches.create(new, Caller())
    assert again == batches.find("x", Access()) == batches.fresh(made)
    assert again.total == 1
    assert batches.create(new, Caller(Access("other"))).id != made.id


def test_pages_are_in_the_order_of_making(open_store: Open) -> None:
    batches = open_store().batches
    made = [batches.create(NewBatch(CHAT, input_file_id="file-1"), Caller()).id for _ in range(5)]

    first, more = batches.page(Access(), Page(2))
    second, _ = batches.page(Access(), Page(2, after=first[-1].id))
    last, no_more = batches.page(Access(), Page(2, after=second[-1].id))

    assert [batch.id for batch in [*first, *second, *last]] == made[::-1]
    assert (more, no_more) == (True, False)
    with pytest.raises(InvalidRequestError):
        batches.page(Access(), Page(after="batch_missing"))


def test_rows_come_in_once(open_store: Open) -> None:
    """What is added again after a crash is passed over; a row that is wrong has failed, and is not waited for."""
    batches = open_store().batches
    batch = batches.create(NewBatch(CHAT), Caller())

    added = [
        batches.add_rows(batch, new_rows(0, 1)),
        batches.add_rows(batch, new_rows(0, 1, 4)),
        batches.add_rows(batch, new_rows(5, error=BAD)),
        batches.add_rows(batch, new_rows(5, error=BAD)),
    ]

    assert added == [2, 1, 1, 0]
    assert counts(batches.fresh(batch)) == (4, 0, 1)
    assert batches.pending(batch) == new_rows(0, 1, 4)
    assert batches.pending(batch, after=0, limit=1) == new_rows(1)
    (failed,) = batches.results(batch)
    assert (failed.row.number, failed.row.custom_id, failed.result.error, failed.sequence) == (5, "row-5", BAD, 1)


def test_a_row_has_one_result(open_store: Open) -> None:
    """Of two results the first counts, in one call and in two; rows that are not there get none."""
    store = open_store()
    batch = running(store, 3)

    new = [
        store.batches.record(batch, [answer(1, "first"), answer(1, "second"), answer(9, "nobody's")]),
        store.batches.record(batch, [answer(1, "third", 500), answer(0, "other")]),
        store.batches.record(batch, []),
    ]

    assert new == [1, 1, 0]
    assert [(row.row.number, row.result.response, row.sequence) for row in store.batches.results(batch)] == [
        (1, "first", 1),
        (0, "other", 2),
    ]
    assert counts(store.batches.fresh(batch)) == (3, 2, 0)
    assert store.batches.pending(batch) == new_rows(2)


def test_results_are_counted_and_read_in_order(open_store: Open) -> None:
    """By their finishing or by the input, all or those that failed, in portions; usage is summed."""
    store = open_store()
    batch = running(store, 5)
    store.batches.record(batch, [answer(3, usage=BatchUsage(10, 4, 5, 2)), RowResult(0, error=LATE)])
    store.batches.record(batch, [answer(4, "{}", 404), answer(1, usage=BatchUsage(1, 1, 1, 1))])

    def numbers(**how: object) -> list[int]:
        return [row.row.number for row in store.batches.results(batch, **how)]

    assert numbers() == [3, 0, 4, 1]
    assert numbers(after=2, limit=1) == [4]
    assert numbers(by="number") == [0, 1, 3, 4]
    assert numbers(by="number", after=1) == [3, 4]
    assert numbers(status="failed") == [0, 4]
    assert numbers(status="completed", by="number") == [1, 3]
    found = store.batches.fresh(batch)
    assert counts(found) == (5, 2, 2)
    assert found.usage == BatchUsage(11, 5, 6, 3)
    (_, late, refused, _) = store.batches.results(batch)
    assert late.result == RowResult(0, error=LATE)
    assert (refused.result.status, refused.result.status_code, refused.result.request_id) == ("failed", 404, "req_4")


def test_answers_are_found_by_what_was_asked(open_store: Open) -> None:
    """Only of this batch, and only of rows that were answered."""
    store = open_store()
    other = running(store, 3)
    store.batches.record(other, [answer(2)])
    batch = running(store, 6)
    store.batches.record(batch, [answer(3, "three"), answer(1, "{}", 500)])

    found = store.batches.answered(batch, ["key-0", "key-1", "key-2"])

    assert {key: row.result.response for key, row in found.items()} == {"key-0": "three"}


def test_only_the_holder_of_the_lease_records(open_store: Open, clock: Clock) -> None:
    """A process that was away for too long loses its batch, and nothing of what it still says is written."""
    slow, quick = open_store(), open_store()
    batch = running(slow, 2)
    assert quick.batches.lease() is None
    clock.now += LEASE_S - 1
    slow.batches.renew(batch)
    clock.now += LEASE_S - 1
    assert quick.batches.lease() is None
    clock.now += 2

    taken = quick.batches.lease()

    assert taken is not None
    assert taken.id == batch.id
    for lost in (
        lambda: slow.batches.record(batch, [answer(0)]),
        lambda: slow.batches.fail_pending(batch, LATE),
        lambda: slow.batches.renew(batch),
        lambda: slow.batches.finalize(batch),
        lambda: slow.batches.finish(batch, "completed"),
        lambda: slow.batches.add_rows(batch, new_rows(7)),
        lambda: slow.batches.begin(batch),
        lambda: slow.batches.fail(batch, []),
    ):
        with pytest.raises(LeaseLostError):
            lost()
    slow.batches.release(batch)
    assert counts(quick.batches.fresh(batch)) == (2, 0, 0)
    assert quick.batches.record(taken, [answer(0)]) == 1


def test_a_late_holder_goes_on_while_nobody_else_came(open_store: Open, clock: Clock) -> None:
    store = open_store()
    batch = running(store, 1)
    clock.now += 10 * LEASE_S

    assert store.batches.record(batch, [answer(0)]) == 1
    assert store.batches.renew(batch).completed == 1


def test_a_released_batch_is_free(open_store: Open) -> None:
    first, second = open_store(), open_store()
    batch = running(first, 1)

    first.batches.release(batch)

    taken = second.batches.lease()
    assert taken is not None
    assert taken.id == batch.id
    with pytest.raises(LeaseLostError):
        first.batches.record(batch, [answer(0)])


def test_a_batch_of_a_dead_process_is_free_at_once(open_store: Open) -> None:
    """A lease says whose it is: when that process is gone, nobody waits for the lease to run out."""
    store = open_store()
    batch = running(store, 1)
    code = "from rag_server.store.lease_owner import new_owner; print(new_owner()); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        owner = process.stdout.readline().strip()
        with store.database.write() as connection:
            connection.exec_driver_sql(f"UPDATE batches SET lease_owner = '{owner}'")
        assert store.batches.lease() is None
        process.kill()
        process.wait()

    taken = store.batches.lease()

    assert taken is not None
    assert taken.id == batch.id


def test_what_the_command_line_still_adds_is_not_leased(open_store: Open) -> None:
    """A batch of a file is checked by whoever leases it; one without waits until its rows are there."""
    store = open_store()
    batch = store.batches.create(NewBatch(CHAT), Caller())
    assert store.batches.lease() is None
    of_file = store.batches.create(NewBatch(CHAT, input_file_id="file-1"), Caller())

    leased = store.batches.lease()

    assert leased is not None
    assert (leased.id, leased.status) == (of_file.id, "validating")
    assert store.batches.begin(batch).status == "in_progress"
    second = store.batches.lease()
    assert second is not None
    assert second.id == batch.id


@pytest.mark.parametrize("at_once", [True, False])
def test_tenants_take_turns(open_store: Open, clock: Clock, at_once: bool) -> None:
    """Whoever has many batches keeps nobody waiting who has one, for a place beside them or for the next one."""
    store = open_store()
    new = NewBatch(CHAT, input_file_id="file-1")
    many = [store.batches.create(new, Caller(Access("many"))).id for _ in range(3)]
    few = [store.batches.create(new, Caller(Access("few"))).id for _ in range(2)]

    taken = []
    for _ in range(5):
        batch = store.batches.lease()
        assert batch is not None
        taken.append(batch.id)
        if not at_once:
            store.batches.fail(batch, [])

    assert taken == [many[0], few[0], many[1], few[1], many[2]]
    assert store.batches.lease() is None


def test_who_has_nothing_at_work_comes_first(open_store: Open, clock: Clock) -> None:
    """Also when it was served last: its batch was a short one."""
    store = open_store()
    new = NewBatch(CHAT, input_file_id="file-1")
    for tenant in ("long", "short", "long", "short"):
        store.batches.create(new, Caller(Access(tenant)))

    assert store.batches.lease().access.tenant == "long"
    short = store.batches.lease()
    assert short.access.tenant == "short"
    store.batches.fail(short, [])

    assert store.batches.lease().access.tenant == "short"


def test_faulty_input_ends_a_batch(open_store: Open) -> None:
    """Its errors are kept as they are, and none of its rows counts."""
    store = open_store()
    batch = store.batches.create(NewBatch(CHAT, input_file_id="file-1"), Caller())
    store.batches.add_rows(batch, new_rows(0, 1))
    errors = (BatchError("empty_file", "There is nothing."), BatchError("url_mismatch", "Not there.", 3, "url"))

    failed = store.batches.fail(batch, errors)

    assert (failed.status, failed.errors, counts(failed)) == ("failed", errors, (0, 0, 0))
    assert failed.failed_at is not None
    assert store.batches.lease() is None


def test_a_batch_runs_through_its_states(open_store: Open, clock: Clock) -> None:
    """Each is entered at the time that is written down for it, and the end frees the lease."""
    store = open_store()
    batch = running(store, 1)
    started = int(clock.now)
    store.batches.record(batch, [answer(0)])
    clock.now += 100
    finalizing = store.batches.finalize(batch)
    clock.now += 100

    done = store.batches.finish(batch, "completed", output_file_id="file-2")

    assert (batch.status, batch.in_progress_at) == ("in_progress", started)
    assert (finalizing.status, finalizing.finalizing_at, finalizing.expired_at) == ("finalizing", started + 100, None)
    assert (done.status, done.completed_at, done.expired_at) == ("completed", started + 200, None)
    assert (done.output_file_id, done.error_file_id) == ("file-2", None)
    assert store.batches.lease() is None
    with pytest.raises(LeaseLostError):
        store.batches.record(batch, [answer(0)])


def test_a_batch_whose_time_is_over_says_since_when(open_store: Open, clock: Clock) -> None:
    """What has no result fails, in portions; another process that goes on with the end knows of it."""
    store, other = open_store(), open_store()
    batch = running(store, 5)
    store.batches.record(batch, [answer(2)])
    expired_at = int(clock.now)
    store.batches.finalize(batch, expired=True)
    failed = [store.batches.fail_pending(batch, LATE, 3)]
    clock.now += 2 * LEASE_S

    batch = other.batches.lease()
    failed += [other.batches.fail_pending(batch, LATE, 3), other.batches.fail_pending(batch, LATE, 3)]
    assert (batch.status, batch.expired_at) == ("finalizing", expired_at)
    done = other.batches.finish(batch, "expired")

    assert failed == [3, 1, 0]
    assert (done.status, done.expired_at, counts(done)) == ("expired", expired_at, (5, 1, 4))


def test_cancelling_is_seen_by_whoever_works(open_store: Open) -> None:
    """The next renewal says so, no other state hides it, and what has ended cannot be cancelled."""
    store = open_store()
    batch = running(store, 2)

    asked = store.batches.cancel(batch.id, Access())

    assert (asked.status, asked.cancelling_at is None) == ("cancelling", False)
    assert store.batches.cancel(batch.id, Access()) == asked
    assert store.batches.renew(batch).status == "cancelling"
    assert store.batches.begin(batch).status == "cancelling"
    assert store.batches.finalize(batch).status == "cancelling"
    assert store.batches.fail(batch, []).status == "cancelling"
    assert store.batches.record(batch, [answer(0)]) == 1
    store.batches.fail_pending(batch, RowError("batch_cancelled", "It was cancelled."))
    done = store.batches.finish(batch, "cancelled")
    assert (done.status, done.cancelled_at is None, counts(done)) == ("cancelled", False, (2, 1, 1))
    with pytest.raises(BatchEndedError, match="cancelled"):
        store.batches.cancel(batch.id, Access())


@pytest.mark.parametrize("input_file_id", ["file-1", None])
def test_a_waiting_batch_that_is_cancelled_is_leased_to_be_ended(open_store: Open, input_file_id: str | None) -> None:
    store = open_store()
    batch = store.batches.create(NewBatch(CHAT, input_file_id=input_file_id), Caller())

    store.batches.cancel(batch.id, Access())

    leased = store.batches.lease()
    assert leased is not None
    assert (leased.id, leased.status, leased.in_progress_at) == (batch.id, "cancelling", None)


@pytest.mark.parametrize("status", ["completed", "expired", "cancelled"])
def test_what_failed_is_tried_again(open_store: Open, clock: Clock, status: str) -> None:
    """Rows that were refused stay as they are; the others wait, with new sequences, and their usage is no longer counted."""
    store = open_store()
    batch = store.batches.create(NewBatch(CHAT), Caller())
    store.batches.add_rows(batch, [*new_rows(0, 1, 2), *new_rows(3, error=BAD)])
    store.batches.begin(batch)
    batch = store.batches.lease()
    store.batches.record(
        batch, [answer(0, usage=BatchUsage(1, 2, 3, 4)), answer(1, "{}", 500, BatchUsage(5, 5, 5, 5)), RowResult(2, error=LATE)]
    )
    store.batches.finish(batch, status, output_file_id="file-2")
    clock.now += 1000

    count = store.batches.retry_failed(batch)

    again = store.batches.lease()
    assert count == 2
    assert (again.status, again.usage, counts(again)) == ("in_progress", BatchUsage(1, 2, 3, 4), (4, 1, 1))
    assert (again.output_file_id, again.completed_at, again.expired_at, again.cancelled_at) == (None, None, None, None)
    assert again.expires_at == int(clock.now) + COMPLETION_WINDOW_S
    assert [row.number for row in store.batches.pending(again)] == [1, 2]
    assert store.batches.record(again, [answer(1, "now"), answer(2, "too")]) == 2
    assert [(row.row.number, row.sequence) for row in store.batches.results(again)] == [(3, 1), (0, 2), (1, 5), (2, 6)]
    assert store.batches.retry_failed(again) == 0
    verify(store.database)


def test_nothing_to_try_again_changes_nothing(open_store: Open) -> None:
    store = open_store()
    batch = running(store, 1)
    store.batches.record(batch, [answer(0)])
    done = store.batches.finish(batch, "completed")

    assert store.batches.retry_failed(batch) == 0
    assert store.batches.fresh(batch) == done


@pytest.mark.parametrize("status", ["validating", "finalizing", "cancelling", "failed"])
def test_trying_again_waits_for_the_end(open_store: Open, status: str) -> None:
    store = open_store()
    batch = store.batches.create(NewBatch(CHAT), Caller())
    with store.database.write() as connection:
        connection.exec_driver_sql(f"UPDATE batches SET status = '{status}'")

    with pytest.raises(InvalidRequestError, match=status):
        store.batches.retry_failed(batch)


def test_a_batch_of_the_command_line_goes_on_after_its_end(open_store: Open) -> None:
    """More rows are added to it and begun; one of a file stays as it ended."""
    store = open_store()
    mine = store.batches.create(NewBatch(CHAT, expires_after_s=None), Caller())
    store.batches.begin(mine)
    store.batches.finish(store.batches.lease(), "completed")
    of_file = store.batches.finish(running(store, 1), "completed")

    store.batches.add_rows(mine, new_rows(0))
    begun = store.batches.begin(mine)

    assert (begun.status, begun.completed_at, begun.expires_at) == ("in_progress", None, None)
    assert store.batches.begin(of_file) == of_file


def test_a_deleted_batch_is_gone(open_store: Open) -> None:
    """With its rows and results; whoever works on it loses it."""
    store = open_store()
    batch, other = running(store, 2), running(store, 1)
    store.batches.record(batch, [answer(0)])

    store.batches.delete(batch)

    with pytest.raises(NotFoundError):
        store.batches.fresh(batch)
    with pytest.raises(LeaseLostError):
        store.batches.record(batch, [answer(1)])
    assert rows(store, "SELECT batch_id FROM batch_rows") == [(other.id,)]
    assert rows(store, "SELECT batch_id FROM batch_results") == []


def test_rows_whose_results_are_in_files_are_removed(open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """In portions; those of running batches stay, and those of the command line, which has them nowhere else."""
    monkeypatch.setattr("rag_server.store.expiry.MAX_ROWS_AT_ONCE", 2)
    store = open_store()
    mine = store.batches.create(NewBatch(CHAT), Caller())
    store.batches.add_rows(mine, new_rows(0))
    store.batches.begin(mine)
    store.batches.finish(store.batches.lease(), "completed")
    ended, faulty, going_on = running(store, 5), running(store, 1), running(store, 2)
    store.batches.record(ended, [answer(number) for number in range(5)])
    store.batches.finish(ended, "completed")
    store.batches.finish(faulty, "cancelled")

    removed = []
    while count := remove_expired(store.database):
        removed.append(count)

    assert sorted(removed) == [1, 1, 2, 2]
    left = rows(store, "SELECT batch_id, count(*) FROM batch_rows GROUP BY batch_id")
    assert sorted(left) == sorted([(mine.id, 1), (going_on.id, 2)])
    assert rows(store, "SELECT * FROM batch_results") == []
    assert counts(store.batches.fresh(ended)) == (5, 5, 0)


def test_a_file_is_written_again_under_its_id(open_store: Open) -> None:
    """What a process that died had written of a batch's output is replaced, whole or not."""
    store = open_store()
    batch = running(store, 1)

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise OSError("killed")

    def write(content: Iterator[bytes] | Sequence[bytes]) -> None:
        name = {"filename": "out.jsonl", "purpose": "batch_output", "upload_id": batch.next_output_file_id}
        store.uploads.put(Access(), content=content, **name)

    with pytest.raises(OSError, match="killed"):
        write(broken())
    with pytest.raises(NotFoundError):
        store.uploads.get(batch.next_output_file_id, Access())
    write([b"one", b"two"])
    write([b"three"])

    (upload,) = store.uploads.readable(Access())
    assert (upload.id, upload.purpose, upload.bytes) == (batch.next_output_file_id, "batch_output", 5)
    assert b"".join(store.uploads.content(upload.id)) == b"three"
    assert batch.next_error_file_id != batch.next_output_file_id
    verify(store.database)


@given(
    calls=st.lists(
        st.lists(st.tuples(st.integers(0, 12), st.sampled_from([200, 404, None]), st.integers(0, 9)), max_size=6), max_size=4
    )
)
@hypothesis_settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_counts_are_those_of_the_results(open_store: Open, calls: list[list[tuple[int, int | None, int]]]) -> None:
    """Whatever is recorded in whatever order: the first result of each row, counted once, numbered without a gap."""
    store = open_store()
    batch = running(store, 10)
    expected: dict[int, tuple[int | None, int]] = {}
    for call in calls:
        results = [
            RowResult(n, status, None if status is None else "{}", None, LATE if status is None else None, BatchUsage(tokens))
            for n, status, tokens in call
        ]
        store.batches.record(batch, results)
        for number, status, tokens in call:
            if number < 10:
                expected.setdefault(number, (status, tokens))

    found = store.batches.fresh(batch)
    results = store.batches.results(batch)
    assert [row.row.number for row in results] == list(expected)
    assert [row.sequence for row in results] == list(range(1, len(expected) + 1))
    completed = sum(status == 200 for status, _ in expected.values())
    assert counts(found) == (10, completed, len(expected) - completed)
    assert found.usage.input_tokens == sum(tokens for _, tokens in expected.values())
    assert {row.number for row in store.batches.pending(batch)} == set(range(10)) - set(expected)
    store.batches.delete(batch)
