"""What is counted of requests, and what a line of the log says of them."""

import contextlib
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from rag_server.config import LimitsSettings, Settings
from rag_server.observability import configure_logging
from rag_server.usage import begin_record, note_usage
from tests.conftest import running_server
from tests.rag_server.api.test_admission import CHAT, _send, _wait_for

StartEngine = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def json_log() -> None:
    """The log as it is where stderr is no terminal."""
    configure_logging()


def metrics(client: httpx.Client) -> Callable[..., float]:
    """Return a look at the metrics of this moment: the value of a name with these labels, 0 for what was never counted."""
    samples = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
    }
    return lambda name, **labels: samples.get((name, frozenset(labels.items())), 0.0)


def test_tokens_stages_and_times_of_an_answer(server: httpx.Client, index: Callable[..., None]) -> None:
    """The engine's own numbers of tokens, each stage once, the first event of a stream, and the request with its route."""
    index("docs", {"cats.md": "Cats sleep."})
    body = {**CHAT, "model": "rag/docs"}
    before = metrics(server)
    usage = server.post("/v1/chat/completions", json=body).json()["usage"]
    streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
    server.post("/v1/chat/completions", json=streamed)
    requests = ("rag_requests_total", {"method": "POST", "route": "/v1/chat/completions", "status": "200"})
    # A request is counted after its last byte.
    while (after := metrics(server))(requests[0], **requests[1]) < before(requests[0], **requests[1]) + 2:
        time.sleep(0.01)

    def grown(name: str, **labels: str) -> float:
        return after(name, **labels) - before(name, **labels)

    # The same answer twice, whole and streamed.
    assert grown("rag_tokens_total", kind="prompt") == 2 * usage["prompt_tokens"]
    assert grown("rag_tokens_total", kind="output") == 2 * usage["completion_tokens"]
    for stage in ("retrieve", "rerank", "prompt", "generate", "cite"):
        assert grown("rag_stage_seconds_count", stage=stage) == 2, stage
    assert grown("rag_time_to_first_token_seconds_count") == 1
    assert grown("rag_request_seconds_count", route="/v1/chat/completions") == 2
    assert grown("rag_queue_wait_seconds_count", queue="generate") == 2
    assert (after("rag_streams_open"), after("rag_queue_running", queue="generate")) == (0, 0)


def test_queue_refusals_and_disconnects_are_counted(settings: Settings, scripted_engine: StartEngine) -> None:
    """One runs, one waits, one is refused; then both clients go."""
    limits = LimitsSettings(generate_running=1, generate_waiting=1, max_wait_s=600)
    limited = settings.model_copy(update={"limits": limits})
    with scripted_engine(time_to_first_token_s=600) as engine, running_server(limited, engine=engine) as client:
        before = metrics(client)
        with contextlib.ExitStack() as connections:
            for _ in range(2):
                connections.enter_context(contextlib.closing(_send(client, "POST", "/v1/chat/completions", CHAT)))
            _wait_for(engine, "running", 1)
            while (during := metrics(client))("rag_queue_waiting", queue="generate") != 1:
                time.sleep(0.01)
            refused = client.post("/v1/chat/completions", json=CHAT)
        while (after := metrics(client))("rag_queue_running", queue="generate") != 0:
            time.sleep(0.01)

    assert refused.status_code == 503
    assert during("rag_queue_running", queue="generate") == 1
    for name, labels, number in (
        ("rag_queue_refused_total", {"queue": "generate", "reason": "full"}, 1),
        ("rag_refusals_total", {"status": "503"}, 1),
        ("rag_client_disconnects_total", {"queue": "generate"}, 2),
    ):
        assert after(name, **labels) - before(name, **labels) == number, name


@pytest.mark.usefixtures("json_log")
def test_log_says_who_asked_for_what_and_never_what_was_said(
    settings: Settings, scripted_engine: StartEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line of JSON per request, refusals too, with the id that the answer bears; no body, key or query string."""
    with scripted_engine() as engine, running_server(settings, engine=engine) as client:
        body: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "a private matter"}]}
        headers = {"authorization": "Bearer a-private-key"}
        answer = client.post("/v1/chat/completions?private=1", json=body, headers=headers)
        refused = client.get("/v1/files/none?private=1")
        client.get("/health")
        client.get("/metrics")
    said = capsys.readouterr().err
    lines = [line for line in map(json.loads, filter(lambda line: line.startswith("{"), said.splitlines()))]
    requests = {line["request_id"]: line for line in lines if line["event"] == "request"}

    assert set(requests) == {answer.headers["x-request-id"], refused.headers["x-request-id"]}
    line = requests[answer.headers["x-request-id"]]
    assert {name: line[name] for name in ("method", "route", "status", "key_id", "level")} == {
        "method": "POST",
        "route": "/v1/chat/completions",
        "status": 200,
        "key_id": None,
        "level": "info",
    }
    assert line["ms"] > 0
    assert requests[refused.headers["x-request-id"]]["status"] == 404
    assert "private" not in said


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, (3, 4)),
        ({"input_tokens": 3, "output_tokens": 4}, (3, 4)),
        ({"prompt_tokens": 5, "total_tokens": 5}, (5, 0)),
        ({"prompt_tokens": 5, "total_tokens": 9}, (5, 4)),
        ({"prompt_tokens": None, "completion_tokens": "4", "total_tokens": -1}, (0, 0)),
        ({}, (0, 0)),
    ],
    ids=str,
)
def test_usage_of_every_kind_of_answer_is_read(usage: dict[str, Any], tokens: tuple[int, int]) -> None:
    """Completions, responses, embeddings, rankings; what makes no sense is nothing. It is charged once, if it is anything."""
    charged: list[int] = []
    record = begin_record()
    record.charge = charged.append
    note_usage(usage)

    assert (record.prompt_tokens, record.output_tokens) == tokens
    assert charged == ([sum(tokens)] if sum(tokens) else [])
