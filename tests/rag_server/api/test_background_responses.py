"""Responses in the background: they end whoever listens, are cancelled, told again, and never left hanging."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from rag_server import factory
from rag_server.api.responses.background import BackgroundRuns
from rag_server.config import Settings
from rag_server.errors import StoreError
from rag_server.factory import Store
from rag_server.protocols import Embedder
from rag_server.store.ids import new_id
from rag_server.store.responses import Responses
from rag_server.types import Access
from tests.conftest import running_server, served
from tests.dialogue import ASKS_WEATHER, WEATHER, Json, SaidEngine, checked, chunks_of, events_of, respond, stream, text_of
from tests.live import Live, live_server


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """One server with a quick engine."""
    with live_server(tmp_path_factory.mktemp("background"), embedder) as server:
        yield server


class Waiting:
    """A server whose engine stops after its first word until `gate` is opened."""

    def __init__(self, client: httpx.Client, engine: SaidEngine, opened: threading.Event) -> None:
        self.client = client
        self.engine = engine
        self.opened = opened

    def begin(self, **fields: Any) -> Json:
        """Start a response in the background, and wait until the engine writes."""
        made = respond(self.client, model="said", background=True, **fields)
        assert wait_for(lambda: self.engine.running == 1)
        return made

    def get(self, response_id: str) -> Json:
        return checked(self.client.get(f"/v1/responses/{response_id}").json())


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    ends = time.monotonic() + seconds
    while not condition() and time.monotonic() < ends:
        time.sleep(0.01)
    return condition()


@pytest.fixture
def open_again(settings: Settings) -> Iterator[Callable[[], Store]]:
    """Open the store of the server once more, as another process does."""
    with contextlib.ExitStack() as opened:

        def call() -> Store:
            store = factory.open_store(settings)
            opened.callback(store.database.close)
            return store

        yield call


@pytest.fixture
def waiting(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Waiting]:
    """A server whose engine waits, and whose leases are short."""
    monkeypatch.setattr("rag_server.api.responses.background.LEASE_S", 1.0)
    monkeypatch.setattr("rag_server.api.responses.background.RENEWED_EVERY_S", 0.1)
    opened = threading.Event()

    def say(_: Json) -> Any:
        def chunks() -> Iterator[Json | float]:
            first, second, *rest = chunks_of({"content": "One"}, {"content": " two"})
            yield first
            while not opened.is_set():
                yield 0.01
            yield from (second, *rest)

        return chunks()

    engine = SaidEngine(say)
    with served(engine.app) as url, running_server(settings, engine=f"{url}/v1") as client:
        yield Waiting(client, engine, opened)
        opened.set()


def ended(client: httpx.Client, response_id: str) -> Json:
    """The response once it has ended."""
    path = f"/v1/responses/{response_id}"
    assert wait_for(lambda: client.get(path).json()["status"] not in ("queued", "in_progress"))
    return checked(client.get(path).json())


def test_response_is_queued_worked_on_and_completed(waiting: Waiting) -> None:
    """The answer to the request comes at once; what is read later has the states in their order."""
    made = waiting.begin()
    during = waiting.get(made["id"])
    waiting.opened.set()
    after = ended(waiting.client, made["id"])

    assert (made["status"], made["background"], made["output"]) == ("queued", True, [])
    assert (during["status"], during["output"], during["created_at"]) == ("in_progress", [], made["created_at"])
    assert (after["status"], text_of(after)) == ("completed", "One two")
    assert after["completed_at"] >= made["created_at"]


def test_same_answer_as_in_the_foreground(live: Live) -> None:
    """Only the ids, the times and `background` differ."""
    fields: Json = {"instructions": "Be brief.", "metadata": {"a": "b"}, "temperature": 0}
    front = respond(live.client, "one two", **fields)
    back = ended(live.client, respond(live.client, "one two", background=True, **fields)["id"])

    differing = {name for name in front if front[name] != back[name]}
    assert differing - {"id", "created_at", "completed_at"} == {"background", "output"}
    assert text_of(front) == text_of(back)


def test_openai_client_polls(live: Live) -> None:
    """OpenAI's client follows the states to the end."""
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none") as client:
        made = client.responses.create(model="scripted", input="take your time", background=True)
        assert wait_for(lambda: client.responses.retrieve(made.id).status == "completed")

        assert "take your time" in client.responses.retrieve(made.id).output_text


def test_cancelled_response_frees_the_engine_and_stays_cancelled(waiting: Waiting) -> None:
    """Cancelling ends the engine's work; a second time changes nothing."""
    made = waiting.begin()
    path = f"/v1/responses/{made['id']}"
    cancelled = checked(waiting.client.post(f"{path}/cancel").json())

    assert (cancelled["id"], cancelled["status"], cancelled["output"]) == (made["id"], "cancelled", [])
    assert wait_for(lambda: waiting.engine.running == 0)
    waiting.opened.set()
    assert waiting.client.post(f"{path}/cancel").json() == cancelled == waiting.get(made["id"])


def test_response_that_has_ended_is_not_cancelled_any_more(live: Live) -> None:
    """It is returned as it is; one that was made in the foreground is refused."""
    done = ended(live.client, respond(live.client, background=True)["id"])
    front = respond(live.client)

    assert live.client.post(f"/v1/responses/{done['id']}/cancel").json() == done
    answer = live.client.post(f"/v1/responses/{front['id']}/cancel")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "response_id")


def test_deleted_response_ends_its_work(waiting: Waiting) -> None:
    """Deleting one that is still made frees the engine, and it does not come back."""
    made = waiting.begin(stream=False)

    assert waiting.client.delete(f"/v1/responses/{made['id']}").json()["deleted"]
    assert wait_for(lambda: waiting.engine.running == 0)
    assert waiting.client.get(f"/v1/responses/{made['id']}").status_code == 404


def test_nothing_follows_a_response_that_is_not_done(waiting: Waiting) -> None:
    """It has no output yet that could be gone on from."""
    made = waiting.begin()
    body = {"model": "said", "input": "And?", "previous_response_id": made["id"]}
    early = waiting.client.post("/v1/responses", json=body)
    waiting.opened.set()
    ended(waiting.client, made["id"])

    assert (early.status_code, early.json()["error"]["param"]) == (400, "previous_response_id")
    respond(waiting.client, "And?", model="said", previous_response_id=made["id"])
    assert [message["content"] for message in waiting.engine.sent[-1]["messages"]] == ["Hello", "One two", "And?"]


def test_what_nobody_works_on_any_more_can_be_followed(live: Live) -> None:
    """A response whose process has ended is failed, whether it was looked at since or not; nobody is told to wait for it."""
    template = respond(live.client, background=True)
    response = {**template, "id": new_id("resp_"), "status": "queued"}
    live.services.store.responses.add(response, [], Access(), lease_until=time.time() - 1)

    respond(live.client, "And?", previous_response_id=response["id"])


def test_failure_is_kept(live: Live) -> None:
    """What the engine refuses is a failed response with a code of OpenAI's, not a status."""
    failed = ended(live.client, respond(live.client, "word " * 9000, background=True)["id"])

    assert (failed["status"], failed["error"]["code"]) == ("failed", "invalid_prompt")
    assert "context length" in failed["error"]["message"]


# Streams


def test_stream_begins_with_the_queue(live: Live) -> None:
    """A background stream tells one state more, and the same response in the end."""
    events = stream(live.client, "one two", background=True)

    kinds = [event["type"] for event in events]
    assert kinds[:4] == ["response.created", "response.queued", "response.in_progress", "response.output_item.added"]
    assert [event["response"]["status"] for event in events[:3]] == ["queued", "queued", "in_progress"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["response"] == live.client.get(f"/v1/responses/{events[0]['response']['id']}").json()


def test_stream_is_told_again_from_any_event(live: Live) -> None:
    """After the end, every starting point gives the rest, event by event."""
    events = stream(live.client, "one two", background=True)
    path = f"/v1/responses/{events[0]['response']['id']}"

    def again(**params: Any) -> list[Json]:
        return events_of(live.client.get(path, params={"stream": True, **params}).text)

    assert wait_for(lambda: live.client.get(path, params={"stream": True}).status_code == 200)
    assert again() == events
    for number in range(len(events)):
        assert again(starting_after=number) == events[number + 1 :]


def test_events_are_kept_with_the_end(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed right after a response has ended leaves its events, the last one included."""

    def killed(*_: object) -> None:
        raise StoreError("gone")

    monkeypatch.setattr(Responses, "save_events", killed)
    for input_, status in (("one two", "completed"), ("word " * 9000, "failed")):
        events = stream(live.client, input_, background=True)
        path = f"/v1/responses/{events[0]['response']['id']}"
        again = events_of(live.client.get(path, params={"stream": True}).text)

        assert (again[-1]["type"], again[-1]["response"]) == (f"response.{status}", live.client.get(path).json())
        assert [event["sequence_number"] for event in again] == list(range(len(again)))
        # Of a failure, the error besides.
        assert [event for event in events if event["type"] != "error"][:-1] == again[:-1]


def test_failure_is_told_again_in_full(live: Live) -> None:
    """With its error, as it was streamed."""
    events = stream(live.client, "word " * 9000, background=True)
    path = f"/v1/responses/{events[0]['response']['id']}"

    def again() -> list[Json]:
        return events_of(live.client.get(path, params={"stream": True}).text)

    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert wait_for(lambda: again() == events)


def test_stream_that_is_asked_for_while_it_ends_is_told(waiting: Waiting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the events come from the work or from the store, nothing falls between the two."""
    body = {"model": "said", "input": "Hello", "background": True, "stream": True}
    with waiting.client.stream("POST", "/v1/responses", json=body) as answer:
        lines = answer.iter_lines()
        created = json.loads(next(line for line in lines if line.startswith("data:"))[5:])
    assert wait_for(lambda: waiting.engine.running == 1)
    read, forget, forgotten = Responses.events, BackgroundRuns._forget, threading.Event()

    def forgetting(runs: BackgroundRuns, run: Any) -> None:
        forget(runs, run)
        forgotten.set()

    def late(*args: Any) -> list[Json] | None:
        found = read(*args)
        waiting.opened.set()
        assert forgotten.wait(10)
        return found

    monkeypatch.setattr(BackgroundRuns, "_forget", forgetting)
    monkeypatch.setattr(Responses, "events", late)
    answer = waiting.client.get(f"/v1/responses/{created['response']['id']}", params={"stream": True})

    assert answer.status_code == 200, answer.text
    assert events_of(answer.text)[-1]["type"] == "response.completed"


def test_events_that_are_told_again_show_their_own_moment(live: Live) -> None:
    """An item that was announced empty is announced empty again, though it has long been written."""
    events = stream(live.client, ASKS_WEATHER, tools=[WEATHER], background=True)
    path = f"/v1/responses/{events[0]['response']['id']}"
    assert wait_for(lambda: ended(live.client, events[0]["response"]["id"])["status"] == "completed")
    again = events_of(live.client.get(path, params={"stream": True}).text)

    added, done = (
        next(event["item"] for event in again if event["type"].endswith(kind)) for kind in ("item.added", "item.done")
    )
    assert (added["arguments"], added["status"]) == ("", "in_progress")
    assert (json.loads(done["arguments"]), done["status"]) == ({"place": "Utsira"}, "completed")


def test_client_that_goes_away_comes_back(waiting: Waiting) -> None:
    """The work goes on without a listener, and a later one gets what it missed and what comes then."""
    body = {"model": "said", "input": "Hello", "background": True, "stream": True}
    with waiting.client.stream("POST", "/v1/responses", json=body) as answer:
        lines = answer.iter_lines()
        created = json.loads(next(line for line in lines if line.startswith("data:"))[5:])
    path = f"/v1/responses/{created['response']['id']}"
    assert wait_for(lambda: waiting.engine.running == 1)
    with waiting.client.stream("GET", path, params={"stream": True, "starting_after": 0}) as answer:
        parts = answer.iter_text()
        found = next(parts)
        waiting.opened.set()
        found += "".join(parts)

    events = events_of(found)
    assert [event["sequence_number"] for event in events] == list(range(1, len(events) + 1))
    assert (events[-1]["type"], text_of(events[-1]["response"])) == ("response.completed", "One two")


def test_listener_of_a_cancelled_response_is_told(waiting: Waiting) -> None:
    """A stream ends with an error that says why."""
    body = {"model": "said", "input": "Hello", "background": True, "stream": True}
    with waiting.client.stream("POST", "/v1/responses", json=body) as answer:
        parts = answer.iter_text()
        found = next(parts)
        response_id = events_of(found.partition("\n\n")[0] + "\n\n")[0]["response"]["id"]
        assert wait_for(lambda: waiting.engine.running == 1)
        waiting.client.post(f"/v1/responses/{response_id}/cancel")
        found += "".join(parts)

    last = events_of(found)[-1]
    assert (last["type"], last["code"]) == ("error", "cancelled")


def test_what_was_not_streamed_is_not_streamed_later(live: Live) -> None:
    """A response in the foreground, or one in the background without a stream, is refused with what to do."""
    for fields in ({}, {"background": True}):
        made = ended(live.client, respond(live.client, **fields)["id"])
        answer = live.client.get(f"/v1/responses/{made['id']}", params={"stream": True})

        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "stream")


def test_listeners_are_not_charged(live: Live) -> None:
    """The tokens of an answer count once, however many listen to it."""

    def tokens() -> float:
        metrics = live.client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in metrics if line.startswith("rag_tokens_total"))

    before = tokens()
    events = stream(live.client, "one two three", background=True)
    usage = events[-1]["response"]["usage"]
    path = f"/v1/responses/{events[0]['response']['id']}"
    for _ in range(3):
        live.client.get(path, params={"stream": True})

    assert tokens() - before == usage["total_tokens"]


# Servers that end


def test_response_of_a_process_that_has_ended_fails(live: Live) -> None:
    """Once nobody holds its lease any more, a response is failed for good, and cannot be cancelled or completed."""
    store = live.services.store.responses
    template = respond(live.client, background=True)
    response = {**template, "id": new_id("resp_"), "status": "in_progress"}
    store.add(response, [], Access(), lease_until=time.time() - 1)

    found = checked(live.client.get(f"/v1/responses/{response['id']}").json())

    assert (found["status"], found["error"]["code"]) == ("failed", "server_error")
    assert not store.finish({**response, "status": "completed"})
    assert live.client.post(f"/v1/responses/{response['id']}/cancel").json() == found


def test_lease_is_kept_while_a_process_works(waiting: Waiting) -> None:
    """One that takes longer than a lease is not taken for abandoned."""
    made = waiting.begin()
    time.sleep(1.5)

    assert waiting.get(made["id"])["status"] == "in_progress"


def test_lease_outlives_whatever_fails_once(waiting: Waiting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Renewing goes on after a failure that nobody thought of."""
    renew, failures = Responses.renew, [RuntimeError("odd"), StoreError("busy")]

    def failing(*args: Any) -> set[str]:
        if failures:
            raise failures.pop()
        return renew(*args)

    monkeypatch.setattr(Responses, "renew", failing)
    made = waiting.begin()
    time.sleep(1.5)

    assert failures == []
    assert waiting.get(made["id"])["status"] == "in_progress"


def test_response_that_another_process_cancelled_is_given_up(waiting: Waiting, open_again: Callable[[], Store]) -> None:
    """Whoever renews a lease hears of it, and the engine is freed."""
    made = waiting.begin()

    open_again().responses.cancel(made["id"], Access())

    assert wait_for(lambda: waiting.engine.running == 0)
    assert waiting.get(made["id"])["status"] == "cancelled"


def test_server_that_is_stopped_fails_what_it_works_on(
    tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next server on the same data says so, and frees nothing late."""
    endless = SaidEngine(lambda _: [*list(chunks_of({"content": "One"}))[:1], *[0.1] * 600])
    with served(endless.app) as url:
        monkeypatch.setattr("rag_server.engines.replicas.addresses_in", lambda _: [f"{url}/v1"])
        with live_server(tmp_path, embedder) as first:
            made = respond(first.client, model="said", background=True)
            assert wait_for(lambda: endless.running == 1)
        assert wait_for(lambda: endless.running == 0)
    with live_server(tmp_path, embedder) as second:
        found = checked(second.client.get(f"/v1/responses/{made['id']}").json())

    assert (found["status"], found["error"]["code"]) == ("failed", "server_error")
    assert "stopped" in found["error"]["message"]


def test_queue_is_bounded(waiting: Waiting, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than can wait is refused with when to come back."""
    monkeypatch.setattr("rag_server.api.responses.background.MAX_RUNNING", 0)
    monkeypatch.setattr("rag_server.api.responses.background.MAX_QUEUED", 1)
    waiting.begin()
    answer = waiting.client.post("/v1/responses", json={"model": "said", "input": "x", "background": True})

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
    assert int(answer.headers["retry-after"]) > 0
