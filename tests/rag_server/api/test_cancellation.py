"""Work ends with its client, and with its time: the engine is free again, whatever it was doing."""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest

from rag_server.config import LimitsSettings, Settings
from tests.conftest import running_server
from tests.rag_server.api.test_admission import CHAT, _send, _wait_for, _wait_for_metric

StartEngine = Callable[..., AbstractContextManager[str]]
RAG: dict[str, Any] = {"model": "rag/docs", "messages": [{"role": "user", "content": "What do cats do?"}]}
RANKING = {"query": "a", "documents": ["a", "b"], "model": "full_ranking"}
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", CHAT),
    "streamed chat": ("/v1/chat/completions", {**CHAT, "stream": True}),
    "chat with passages": ("/v1/chat/completions", RAG),
    "streamed chat with passages": ("/v1/chat/completions", {**RAG, "stream": True}),
    "completion": ("/v1/completions", {"model": "scripted", "prompt": "hello"}),
    "streamed completion": ("/v1/completions", {"model": "scripted", "prompt": "hello", "stream": True}),
    "ranking": ("/v1/rerank", RANKING),
}


@pytest.fixture
def idle_engine(scripted_engine: StartEngine) -> Iterator[str]:
    """An engine that takes requests and says nothing for ten minutes."""
    with scripted_engine(time_to_first_token_s=600) as engine:
        yield engine


def ranking_by_engine(settings: Settings, **limits: Any) -> Settings:
    """Settings with a reranker that asks the engine, and with these limits."""
    rerank = settings.rerank.model_copy(update={"kind": "full_ranking", "deadline_s": 600.0})
    retrieve = settings.retrieve.model_copy(update={"kind": "lexical"})
    return settings.model_copy(update={"rerank": rerank, "retrieve": retrieve, "limits": LimitsSettings(**limits)})


@pytest.fixture
def docs(index: Callable[..., None]) -> None:
    index("docs", {"cats.md": "Cats sleep.", "dogs.md": "Dogs bark."})


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.usefixtures("docs")
def test_gone_client_frees_an_engine_that_is_silent(settings: Settings, idle_engine: str, name: str) -> None:
    """The engine has sent nothing yet, so that nothing could fail to be sent on; it is told all the same."""
    path, body = REQUESTS[name]
    # Passages are ranked by the engine too, before it answers.
    with running_server(ranking_by_engine(settings), engine=idle_engine) as client:
        with contextlib.closing(_send(client, "POST", path, body)):
            _wait_for(idle_engine, "running", 1)
        _wait_for(idle_engine, "aborted", 1)
        _wait_for_metric(client, 'rag_queue_running{queue="generate"} 0.0')

    stats = httpx.get(idle_engine.replace("/v1", "/scripted/stats"), trust_env=False).json()
    assert (stats["finished"], stats["running"]) == (0, 0)


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.usefixtures("docs")
def test_deadline_ends_the_engines_work(settings: Settings, idle_engine: str, name: str) -> None:
    """504 before the first byte, in OpenAI's shape, and clients are told not to try again."""
    path, body = REQUESTS[name]
    with running_server(ranking_by_engine(settings, deadline_s=0.3), engine=idle_engine) as client:
        response = client.post(path, json=body)
        _wait_for(idle_engine, "running", 0)

    assert response.status_code == 504
    assert response.json()["error"]["code"] == "deadline_exceeded"
    assert response.headers["x-should-retry"] == "false"


def test_deadline_in_mid_stream_is_an_event(settings: Settings, scripted_engine: StartEngine) -> None:
    """What was said stays, then comes the error, and the stream has its proper end."""
    with (
        scripted_engine(answer="word " * 1000, tokens_per_s=20) as engine,
        running_server(ranking_by_engine(settings, deadline_s=1.0), engine=engine) as client,
    ):
        response = client.post("/v1/chat/completions", json={**CHAT, "stream": True})
        _wait_for(engine, "aborted", 1)

    events = [json.loads(line.removeprefix("data: ")) for line in response.text.split("\n\n") if line]
    assert response.status_code == 200
    assert len(events) > 2
    assert all("choices" in event for event in events[:-1])
    assert events[-1]["error"]["code"] == "deadline_exceeded"


def test_deadline_in_the_midst_of_a_response_is_an_error_event(settings: Settings, scripted_engine: StartEngine) -> None:
    """As the Responses API has it: named, flat, and with the number that comes next."""
    with (
        scripted_engine(answer="word " * 1000, tokens_per_s=20) as engine,
        running_server(ranking_by_engine(settings, deadline_s=1.0), engine=engine) as client,
    ):
        response = client.post("/v1/responses", json={"model": "scripted", "input": "hello", "stream": True})
        _wait_for(engine, "aborted", 1)

    parts = [part.split("\ndata: ") for part in response.text.split("\n\n") if part]
    events = [json.loads(data) for _, data in parts]
    assert [name for name, _ in parts] == [f"event: {event['type']}" for event in events]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert (events[-1]["type"], events[-1]["code"], events[-1]["param"]) == ("error", "deadline_exceeded", None)


@pytest.mark.parametrize("header", ["x-stainless-read-timeout", "x-stainless-timeout"])
def test_clients_own_timeout_is_a_deadline_for_the_first_byte(settings: Settings, idle_engine: str, header: str) -> None:
    """As OpenAI's clients send it; a proxy between may not tell that they are gone."""
    with running_server(settings, engine=idle_engine) as client:
        response = client.post("/v1/chat/completions", json=CHAT, headers={header: "0.2"})
        _wait_for(idle_engine, "aborted", 1)

    assert response.status_code == 504


def test_clients_own_timeout_is_none_for_a_stream_that_flows(settings: Settings, scripted_engine: StartEngine) -> None:
    """It is the time between two bytes; the whole may take longer."""
    with (
        scripted_engine(answer="word " * 30, tokens_per_s=40) as engine,
        running_server(settings, engine=engine) as client,
    ):
        headers = {"x-stainless-read-timeout": "0.5"}
        response = client.post("/v1/chat/completions", json={**CHAT, "stream": True}, headers=headers)

    assert response.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("value", ["", "soon", "-1", "0", "nan"])
def test_senseless_timeouts_of_clients_are_none(server: httpx.Client, value: str) -> None:
    """The request is answered as if nothing had been said."""
    assert server.post("/v1/chat/completions", json=CHAT, headers={"x-stainless-timeout": value}).status_code == 200


def test_upload_that_breaks_off_leaves_nothing(server: httpx.Client, capsys: pytest.CaptureFixture[str]) -> None:
    """No file and no error in the log; the client is counted as gone."""
    gone = 'rag_client_disconnects_total{queue="upload"}'
    before = _metric(server, gone)
    request = server.build_request("POST", "/v1/files", files={"file": ("a.txt", b"hello")}, data={"purpose": "assistants"})
    body = request.read()
    head = f"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-type: {request.headers['content-type']}\r\n"
    with socket.create_connection((server.base_url.host, server.base_url.port), timeout=30) as connection:
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body[:-10])
        _wait_for_metric(server, 'rag_queue_running{queue="upload"} 1.0')
    while _metric(server, gone) == before:
        time.sleep(0.01)

    assert server.get("/v1/files").json()["data"] == []
    assert "unexpected" not in capsys.readouterr().out


def _metric(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))
