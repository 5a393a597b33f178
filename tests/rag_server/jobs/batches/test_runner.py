"""Batches are brought to their end, each row answered once, whatever happens: on SQLite, against a scripted engine."""

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import aiohttp
import pytest

from rag_server import factory
from rag_server.api.json_bodies import check_json
from rag_server.batch_lines import request_text, row_key
from rag_server.batch_types import Batch, BatchRow, NewBatch
from rag_server.config import load_settings
from rag_server.engines.engine_load import EngineMetrics
from rag_server.errors import StoreError
from rag_server.jobs.batches import answering, outage, recording, runner
from rag_server.jobs.batches.control import Looks
from rag_server.jobs.batches.gate import Gate
from rag_server.jobs.batches.runner import BatchRunner, Parts
from rag_server.jobs.batches.validation import Validation
from rag_server.live_traffic import LiveTraffic
from rag_server.protocols import Json
from rag_server.store import batch_leases
from rag_server.types import Access, Caller

URL = "/v1/chat/completions"
StartEngine = Callable[..., AbstractContextManager[str]]
WAIT_S = 120


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits longer than it must."""
    for module, name in ((runner, "POLL_S"), (runner, "RETRY_S"), (recording, "RETRY_S"), (answering, "BROKEN_DELAY_S")):
        monkeypatch.setattr(module, name, 0.02)
    monkeypatch.setattr(outage, "FIRST_DELAY_S", 0.02)
    monkeypatch.setattr(outage, "LONGEST_DELAY_S", 0.1)


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[[], factory.Store]]:
    """Open the same store; each call is as good as another process."""
    with contextlib.ExitStack() as opened:

        def call() -> factory.Store:
            store = factory.open_store(load_settings({}, data_dir=tmp_path / "data"))
            opened.callback(store.database.close)
            return store

        yield call


class Engine:
    """Sends rows to an engine as the application would, and keeps what it sent."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.sent: list[Json] = []
        self.is_away = False
        self.session: aiohttp.ClientSession

    async def send(self, url: str, body: Json, _: Caller) -> tuple[int, Json, str]:
        self.sent.append(body)
        if self.is_away:
            return 503, {"error": {"message": "away", "code": "engine_unavailable"}}, "req_0"
        async with self.session.post(self.base_url.removesuffix("/v1") + url, json=body) as response:
            return response.status, await response.json(), "req_1"

    async def models(self) -> list[Json]:
        return [{"id": "scripted"}]

    @property
    def questions(self) -> list[str]:
        return [body["messages"][-1]["content"] for body in self.sent]


@contextlib.asynccontextmanager
async def engine_at(base_url: str) -> AsyncIterator[Engine]:
    engine = Engine(base_url)
    async with aiohttp.ClientSession() as engine.session:
        yield engine


def running(store: factory.Store, engine: Engine, most: int = 16) -> contextlib.AbstractAsyncContextManager[None]:
    async def own_models() -> tuple[str, ...]:
        return ()

    validation = Validation(store, engine, check=check_json, own_models=own_models, max_bytes=100_000)
    metrics = EngineMetrics(lambda: engine.base_url)

    @contextlib.asynccontextmanager
    async def run() -> AsyncIterator[None]:
        parts = Parts(store, Gate(LiveTraffic(), most), engine.send, Looks(metrics.read, lambda: 0), validation)
        async with BatchRunner(parts).running():
            yield
        await metrics.aclose()

    return run()


def body(text: str, **fields: object) -> Json:
    return {"model": "scripted", "messages": [{"role": "user", "content": text}], **fields}


def row(number: int, asked: Json) -> BatchRow:
    return BatchRow(number, f"row {number}", request_text(URL, asked), row_key(URL, asked))


def made(store: factory.Store, bodies: list[Json], **fields: object) -> Batch:
    batch = store.batches.create(NewBatch(URL, **{"expires_after_s": None, **fields}), Caller())
    store.batches.add_rows(batch, [row(number, one) for number, one in enumerate(bodies)])
    return store.batches.begin(batch)


async def ended(store: factory.Store, batch: Batch) -> Batch:
    async with asyncio.timeout(WAIT_S):
        while (batch := await asyncio.to_thread(store.batches.fresh, batch)).status not in (
            "completed",
            "cancelled",
            "expired",
            "failed",
        ):
            await asyncio.sleep(0.01)
    return batch


async def answered(store: factory.Store, batch: Batch, number: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while (await asyncio.to_thread(store.batches.fresh, batch)).completed < number:
            await asyncio.sleep(0.002)


def outcome(store: factory.Store, batch: Batch) -> dict[int, tuple[str, int | None, str | None]]:
    """What each row got; that no row has two is the table's primary key, and its counts are compared here."""
    found = store.batches.results(batch, limit=100_000)
    fresh = store.batches.fresh(batch)
    assert sorted(one.row.number for one in found) == sorted({one.row.number for one in found})
    assert fresh.completed + fresh.failed == len(found)
    assert len({one.sequence for one in found}) == len(found)
    return {one.row.number: (one.result.status, one.result.status_code, said(one.result.response)) for one in found}


def said(response: str | None) -> str | None:
    told = json.loads(response or "{}")
    return told["choices"][0]["message"]["content"] if "choices" in told else (told.get("error") or {}).get("message")


BODIES = [
    body(f"question {number % 70}") if number % 9 else body(f"too long {number} " + "word " * 300) for number in range(100)
]


async def undisturbed(base_url: str, open_store: Callable[[], factory.Store]) -> dict[int, tuple[str, int | None, str | None]]:
    store = open_store()
    batch = made(store, BODIES)
    async with engine_at(base_url) as engine, running(store, engine):
        await ended(store, batch)
    return outcome(store, batch)


async def test_every_row_gets_its_result(scripted_engine: StartEngine, open_store: Callable[[], factory.Store]) -> None:
    """Rows that the engine answers are completed with what it said, those that it refuses failed with its status."""
    with scripted_engine(context_length=200) as base_url:
        found = await undisturbed(base_url, open_store)

    assert set(found) == set(range(100))
    assert found[1] == ("completed", 200, "You said: question 1")
    assert found[9][:2] == ("failed", 400)


@pytest.mark.parametrize("seed", range(3))
async def test_a_disturbed_run_ends_like_an_undisturbed_one(
    scripted_engine: StartEngine, open_store: Callable[[], factory.Store], seed: int
) -> None:
    """The engine fails now and then, runners are ended at random points, and others go on."""
    chance = random.Random(seed)
    with scripted_engine(context_length=200) as base_url:
        expected = await undisturbed(base_url, open_store)
    with scripted_engine(context_length=200, fail_every=7, time_to_first_token_s=0.01) as base_url:
        batch = made(open_store(), BODIES)
        for _ in range(6):
            store = open_store()
            async with engine_at(base_url) as engine, running(store, engine):
                known = store.batches.fresh(batch)
                if known.status == "in_progress":
                    await answered(store, batch, min(88, known.completed + chance.randrange(1, 16)))
        store = open_store()
        async with engine_at(base_url) as engine, running(store, engine):
            final = await ended(store, batch)

    assert outcome(store, batch) == expected
    assert final.status == "completed"


async def test_an_engine_that_is_away_for_a_while_is_waited_for(
    scripted_engine: StartEngine, open_store: Callable[[], factory.Store]
) -> None:
    """Nothing fails while it is away, only one row at a time tries, and once it is back all rows get their answers."""
    store = open_store()
    with scripted_engine(context_length=200) as base_url:
        expected = await undisturbed(base_url, open_store)
        batch = made(store, BODIES)
        async with engine_at(base_url) as engine:
            engine.is_away = True
            async with running(store, engine):
                async with asyncio.timeout(WAIT_S):
                    while len(engine.sent) < 20:
                        await asyncio.sleep(0.01)
                counted = store.batches.fresh(batch)
                engine.is_away = False
                final = await ended(store, batch)

    assert (counted.completed, counted.failed) == (0, 0)
    assert outcome(store, batch) == expected
    assert final.status == "completed"


async def test_a_lease_that_was_taken_over_records_nothing(
    scripted_engine: StartEngine, open_store: Callable[[], factory.Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runner that does not renew its lease loses the batch to another one; both run, and each row has one result."""
    monkeypatch.setattr(batch_leases, "LEASE_S", 0.3)
    monkeypatch.setattr("rag_server.store.batches.LEASE_S", 0.3)
    monkeypatch.setattr(runner, "RENEWED_EVERY_S", 0.05)
    first, second = open_store(), open_store()
    monkeypatch.setattr(first.batches, "renew", lambda batch: batch)
    with scripted_engine(context_length=200) as base_url:
        expected = await undisturbed(base_url, open_store)
    with scripted_engine(context_length=200, time_to_first_token_s=0.1) as base_url:
        batch = made(first, BODIES)
        async with engine_at(base_url) as slow, running(first, slow, most=1):
            await answered(first, batch, 1)
            async with engine_at(base_url) as engine, running(second, engine):
                final = await ended(second, batch)

    assert outcome(second, batch) == expected
    assert final.status == "completed"
    assert engine.sent
    assert len(slow.sent) < len(engine.sent)


async def test_rows_that_ask_the_same_are_asked_once(
    scripted_engine: StartEngine, open_store: Callable[[], factory.Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also across windows and across a restart; each has its own result. Rows that want to be sampled are each asked."""
    monkeypatch.setattr(answering, "WINDOW", 10)
    bodies = [body(f"question {number % 5}") for number in range(60)] + [body("dice", temperature=1)] * 4
    sent: list[str] = []
    with scripted_engine(time_to_first_token_s=0.1) as base_url:
        batch = made(open_store(), bodies)
        for point in (1, 64):
            store = open_store()
            async with engine_at(base_url) as engine, running(store, engine, most=1):
                await answered(store, batch, point)
                was_begun = point == 64 or store.batches.fresh(batch).completed < 60
            # What was not yet written down when the runner ended is asked again.
            written = {bodies[number]["messages"][0]["content"] for number in outcome(store, batch)}
            sent += [question for question in engine.questions if question in written]
        async with engine_at(base_url) as engine, running(store, engine):
            await ended(store, batch)

    assert was_begun

    assert {text: count for text, count in Counter(sent).items() if text != "dice"} == {
        f"question {number}": 1 for number in range(5)
    }
    assert Counter(sent)["dice"] == 4
    assert {number: found[2] for number, found in outcome(store, batch).items()} == {
        number: f"You said: {one['messages'][0]['content']}" for number, one in enumerate(bodies)
    }
    assert store.batches.fresh(batch).usage.output_tokens == 5 * 4 + 4 * 3


async def test_rows_with_the_same_beginning_go_together(
    scripted_engine: StartEngine, open_store: Callable[[], factory.Store]
) -> None:
    """Of interleaved system messages, each is asked with all of its questions, in their order, before the next."""
    systems = ("be brief", "be kind", "be gone")
    bodies = []
    for number in range(30):
        one = body(f"question {number}")
        bodies.append({**one, "messages": [{"role": "system", "content": systems[number % 3]}, *one["messages"]]})
    store = open_store()
    with scripted_engine() as base_url:
        async with engine_at(base_url) as engine, running(store, engine, most=1):
            await ended(store, made(store, bodies))

    expected = [f"question {number}" for first in range(3) for number in range(first, 30, 3)]
    assert engine.questions == expected


async def test_a_cancelled_batch_keeps_what_was_answered(
    scripted_engine: StartEngine, open_store: Callable[[], factory.Store]
) -> None:
    """Nothing more is asked; the other rows fail with batch_cancelled, and both files are there."""
    store = open_store()
    lines = [{"custom_id": f"r{number}", "method": "POST", "url": URL, "body": body(f"q {number}")} for number in range(50)]
    content = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    upload = store.uploads.put(Access(), filename="in.jsonl", purpose="batch", content=[content])
    batch = store.batches.create(NewBatch(URL, input_file_id=upload.id), Caller())
    with scripted_engine(time_to_first_token_s=0.02) as base_url:
        async with engine_at(base_url) as engine, running(store, engine, most=2):
            await answered(store, batch, 5)
            store.batches.cancel(batch.id, Access())
            final = await ended(store, batch)
            asked = len(engine.sent)

    errors = read(store, final.error_file_id)
    assert final.status == "cancelled"
    assert 5 <= final.completed <= asked < 50
    assert len(read(store, final.output_file_id)) == final.completed
    assert len(errors) == final.failed == 50 - final.completed
    assert {line["error"]["code"] for line in errors} == {"batch_cancelled"}
    assert {line["response"] for line in errors} == {None}


async def test_an_expired_batch_says_so(scripted_engine: StartEngine, open_store: Callable[[], factory.Store]) -> None:
    """A batch whose time is over ends as expired, with what it has; the other rows fail with batch_expired."""
    store = open_store()
    batch = made(store, [body(f"q {number}") for number in range(5)], expires_after_s=0)
    with scripted_engine(time_to_first_token_s=30) as base_url:
        async with engine_at(base_url) as engine, running(store, engine):
            final = await ended(store, batch)

    assert final.status == "expired"
    found = store.batches.results(batch)
    assert {one.result.error.code for one in found if one.result.error} == {"batch_expired"}
    assert final.failed == 5


async def test_a_row_that_always_breaks_the_engine_fails_in_the_end(
    scripted_engine: StartEngine, open_store: Callable[[], factory.Store]
) -> None:
    """It is tried some times, keeps nobody else from being answered, and then has the engine's error as its result."""
    store = open_store()

    class Fragile(Engine):
        async def send(self, url: str, body: Json, caller: Caller) -> tuple[int, Json, str]:
            if body["messages"][0]["content"] == "q 3":
                self.sent.append(body)
                return 502, {"error": {"message": "broke", "code": "engine_protocol_error"}}, "req_2"
            return await super().send(url, body, caller)

    with scripted_engine() as base_url:
        engine = Fragile(base_url)
        async with aiohttp.ClientSession() as engine.session, running(store, engine):
            batch = made(store, [body(f"q {number}") for number in range(10)])
            final = await ended(store, batch)

    assert (final.completed, final.failed) == (9, 1)
    assert outcome(store, batch)[3] == ("failed", 502, "broke")
    assert Counter(engine.questions)["q 3"] == answering.MAX_FAILURES


async def test_a_store_that_cannot_be_written_holds_the_batch_up(
    scripted_engine: StartEngine, open_store: Callable[[], factory.Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk is full nothing counts and few rows begin; once there is room again, every row is recorded once."""
    store = open_store()
    record, refused = store.batches.record, []

    def full(*_: object) -> int:
        refused.append(1)
        raise StoreError("the disk is full")

    monkeypatch.setattr(store.batches, "record", full)
    with scripted_engine() as base_url:
        async with engine_at(base_url) as engine, running(store, engine):
            batch = made(store, [body(f"q {number}") for number in range(600)])
            async with asyncio.timeout(WAIT_S):
                while len(refused) < 10:
                    await asyncio.sleep(0.01)
            begun, counted = len(engine.sent), store.batches.fresh(batch).completed
            monkeypatch.setattr(store.batches, "record", record)
            final = await ended(store, batch)

    assert counted == 0
    assert begun < 600
    assert final.completed == 600
    assert set(Counter(engine.questions).values()) == {1}


async def test_the_input_is_checked_before_anything_is_asked(
    scripted_engine: StartEngine, open_store: Callable[[], factory.Store]
) -> None:
    """A line with another url, one that is no JSON and one with a model that there is not: listed, and no row is asked."""
    store = open_store()
    good = {"custom_id": "a", "method": "POST", "url": URL, "body": body("hello")}
    lines = [
        good,
        {**good, "custom_id": "b", "url": "/v1/embeddings"},
        {**good, "custom_id": "c", "body": {**body("x"), "model": "no"}},
    ]
    content = "\n".join([*map(json.dumps, lines), "{"]).encode()
    upload = store.uploads.put(Access(), filename="in.jsonl", purpose="batch", content=[content])
    batch = store.batches.create(NewBatch(URL, input_file_id=upload.id), Caller())
    with scripted_engine() as base_url:
        async with engine_at(base_url) as engine, running(store, engine):
            final = await ended(store, batch)

    assert final.status == "failed"
    assert [(error.line, error.code) for error in final.errors] == [
        (2, "url_mismatch"),
        (3, "model_not_found"),
        (4, "invalid_json_line"),
    ]
    assert engine.sent == []


def read(store: factory.Store, file_id: str | None) -> list[Json]:
    content = b"".join(store.uploads.content(str(file_id)))
    return [json.loads(line) for line in content.splitlines()]
