"""/ready where there are several engines: one that answers is enough, and each is named, though its address is not."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx

from rag_server.config import Settings
from tests.conftest import running_server
from tests.rag_server.api.test_admission import CHAT

StartEngine = Callable[..., AbstractContextManager[str]]
NOBODY = "http://127.0.0.1:9/v1"
WITHIN_S = 120.0


def settled(client: httpx.Client) -> httpx.Response:
    """What /ready says once nothing but engines may be missing."""
    gives_up_at = time.monotonic() + WITHIN_S
    while set((answer := client.get("/ready")).json()["missing"]) - {"engine"}:
        assert time.monotonic() < gives_up_at, answer.text
        time.sleep(0.05)
    return answer


def test_one_engine_that_answers_is_enough(settings: Settings, scripted_engine: StartEngine) -> None:
    """Questions are answered, /ready says so and which engine is away, and the metrics count what came of asking it."""
    with scripted_engine() as there, running_server(settings, engine=f"{NOBODY},{there}") as client:
        ready, asked = settled(client), client.post("/v1/chat/completions", json=CHAT)
        metrics = client.get("/metrics").text

    assert (ready.status_code, asked.status_code) == (200, 200)
    assert ready.json()["engines"]["engine 2"] == "ready"
    assert "cannot be reached" in ready.json()["engines"]["engine 1"]
    assert "127.0.0.1" not in ready.text
    assert 'rag_engine_requests_total{engine="engine 1",outcome="unreachable"}' in metrics
    assert 'rag_engine_requests_total{engine="engine 2",outcome="answered"}' in metrics
    assert 'rag_engine_running{engine="engine 2"} 0.0' in metrics


def test_without_any_engine_each_is_missing(settings: Settings) -> None:
    """With the fault of each."""
    with running_server(settings, engine=f"{NOBODY}, http://127.0.0.1:19/v1") as client:
        ready = settled(client)

    assert ready.status_code == 503
    assert "engine 1: " in ready.json()["missing"]["engine"]
    assert "engine 2: " in ready.json()["missing"]["engine"]
