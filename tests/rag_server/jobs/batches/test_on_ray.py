"""Answering on a Ray cluster: what a worker does, and what this process makes of it, with a stand-in for Ray.

The real one looks for the metadata of clouds when it starts, which no test may.
"""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from rag_server import factory
from rag_server.batch_lines import request_text, row_key
from rag_server.batch_types import BatchRow, LeaseLostError, NewBatch, RowResult
from rag_server.config import load_settings
from rag_server.jobs.batches import on_ray
from rag_server.jobs.batches.answering import Send
from rag_server.jobs.batches.on_ray import Worker, record_answers
from rag_server.protocols import Json
from rag_server.types import Caller

URL = "/v1/chat/completions"


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[Send]:
    """An application that says back what it is asked; at first it is away, and `broken` is what always breaks it."""
    was_asked = False

    async def send(url: str, body: Json, caller: Caller) -> tuple[int, Json, str]:
        nonlocal was_asked
        if not was_asked:
            was_asked = True
            return 503, {"error": {"message": "away"}}, "req_0"
        if body["say"] == "broken":
            return 502, {"error": {"message": "broken"}}, "req_1"
        return 200, {"said": body["say"], "usage": {"prompt_tokens": 2, "completion_tokens": 1}}, "req_2"

    yield send


def test_a_worker_asks_until_there_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """What may pass is asked again without an end, what breaks the engine some times; the answers are in the rows' order."""
    monkeypatch.setattr(on_ray, "RETRY_S", 0.01)
    worker = Worker(echo, Caller())
    said = ["a", "broken", "b"]

    told = worker({"number": [4, 5, 6], "url": [URL] * 3, "body": [json.dumps({"say": text}) for text in said]})

    assert told["number"] == [4, 5, 6]
    assert told["status"] == [200, 502, 200]
    assert [json.loads(answer).get("said") for answer in told["answer"]] == ["a", None, "b"]


class Cluster:
    """Does what is used of Ray in this process, with one worker."""

    def __init__(self) -> None:
        self.data = self
        self.DataContext = SimpleNamespace(get_current=SimpleNamespace)
        self.asked: list[Json] = []
        self.is_up = False

    def init(self, **_: object) -> None:
        self.is_up = True

    def shutdown(self) -> None:
        self.is_up = False

    def nodes(self) -> list[Json]:
        return [{"Alive": True}]

    def from_items(self, items: list[Json]) -> "Cluster":
        self.asked += items
        return self

    def map_batches(self, worker: type[Worker], *, fn_constructor_args: tuple, batch_size: int, concurrency: int) -> "Cluster":
        assert concurrency >= on_ray.MIN_WORKERS
        made = worker(*fn_constructor_args)
        columns = ("number", "url", "body")
        parts = [self.asked[start : start + batch_size] for start in range(0, len(self.asked), batch_size)]
        self.answers = [made({name: [item[name] for item in part] for name in columns}) for part in parts]
        return self

    def iter_batches(self, **_: object) -> list[Json]:
        return self.answers


def test_every_row_is_recorded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that ask the same share an answer, also one that was recorded before, which is not asked again."""
    cluster = Cluster()
    monkeypatch.setattr(on_ray, "ray_modules", lambda: cluster)
    monkeypatch.setattr(on_ray, "RETRY_S", 0.01)
    store = factory.open_store(load_settings({}, data_dir=tmp_path / "data"))
    batch = store.batches.create(NewBatch(URL, expires_after_s=None), Caller())
    store.batches.take(batch)
    bodies = [{"say": f"word {number % 40}"} for number in range(100)]
    rows = [BatchRow(number, f"r{number}", request_text(URL, body), row_key(URL, body)) for number, body in enumerate(bodies)]
    store.batches.add_rows(batch, rows)
    store.batches.begin(batch)
    store.batches.record(batch, [RowResult(45, 200, json.dumps({"said": "word 5"}))])

    record_answers(store.batches, batch, echo, "local")

    found = store.batches.results(batch, limit=1000)
    total = store.batches.fresh(batch)
    store.database.close()
    assert {one.row.number: json.loads(one.result.response or "")["said"] for one in found} == {
        number: body["say"] for number, body in enumerate(bodies)
    }
    assert (total.completed, total.usage.output_tokens) == (100, 39)
    assert len(cluster.asked) == 39
    assert not cluster.is_up


def test_a_batch_that_a_server_works_on_is_left_to_it(tmp_path: Path) -> None:
    """Taking it is refused while its lease holds."""
    settings = load_settings({}, data_dir=tmp_path / "data")
    server, command = factory.open_store(settings), factory.open_store(settings)
    batch = server.batches.create(NewBatch(URL), Caller())
    server.batches.begin(batch)
    server.batches.lease()

    with pytest.raises(LeaseLostError):
        command.batches.take(batch)
    server.batches.release(batch)
    assert command.batches.take(batch).id == batch.id
    server.database.close()
    command.database.close()
