"""The end of a server: /ready says so first, nothing new is begun, what runs is finished, and then the engine ends."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import uvicorn

from rag_server.api.app import create_app
from rag_server.commands.draining import DrainingServer
from rag_server.config import LimitsSettings, Settings
from rag_server.services import Services
from tests.rag_server.api.test_admission import CHAT, _wait_for

StartEngine = Callable[..., AbstractContextManager[str]]
STREAMED = {**CHAT, "stream": True}


class EngineChild:
    """In the place of the engine's process: it notes when it is ended."""

    ready, detail = True, "ready"

    def __init__(self, events: list[str]) -> None:
        self._events = events

    def start(self) -> None:
        self._events.append("engine started")

    async def stop(self) -> None:
        self._events.append("engine stopped")


@dataclass
class Running:
    """A server in a thread that can be asked to end."""

    server: DrainingServer
    client: httpx.Client
    events: list[str] = field(default_factory=list)

    def ask_to_end(self) -> None:
        self.server.handle_exit(signal.SIGTERM, None)


@contextlib.contextmanager
def serving(settings: Settings, engine: str, *, grace_s: float, notice_s: float = 0.0) -> Iterator[Running]:
    events: list[str] = []
    update = {
        "engine": settings.engine.model_copy(update={"base_url": engine}),
        "limits": LimitsSettings(shutdown_grace_s=grace_s, shutdown_notice_s=notice_s),
    }
    services = Services(settings.model_copy(update=update))
    services.engine_child = EngineChild(events)
    app = create_app(services)
    config = uvicorn.Config(app, log_level="warning")
    server = DrainingServer(config, services, lambda: app.state.background_runs.num_running)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with httpx.Client(base_url=url, timeout=30.0, trust_env=False) as client:
                yield Running(server, client, events)
        finally:
            server.should_exit = True
            thread.join()


def test_streams_finish_while_nothing_new_is_begun(settings: Settings, scripted_engine: StartEngine) -> None:
    """The stream is whole; meanwhile /ready and every other request say 503, and new connections are still taken."""
    with (
        scripted_engine(answer="word " * 60, tokens_per_s=40) as engine,
        serving(settings, engine, grace_s=60) as running,
    ):
        with running.client.stream("POST", "/v1/chat/completions", json=STREAMED) as response:
            lines = response.iter_lines()
            next(lines)
            running.ask_to_end()
            with httpx.Client(base_url=running.client.base_url, trust_env=False) as newcomer:
                ready, alive = newcomer.get("/ready"), newcomer.get("/health")
                refused = newcomer.post("/v1/chat/completions", json=CHAT)
            running.events.append("refused")
            last = [line for line in lines if line][-1]
            running.events.append("stream ended")
        while "engine stopped" not in running.events:
            time.sleep(0.01)

    assert (ready.status_code, ready.json()["status"]) == (503, "shutting_down")
    assert alive.status_code == 200
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
    assert refused.headers["connection"] == "close"
    assert int(refused.headers["retry-after"]) >= 1
    assert last == "data: [DONE]"
    assert running.events == ["engine started", "refused", "stream ended", "engine stopped"]


def test_requests_are_served_while_the_notice_lasts(settings: Settings, scripted_engine: StartEngine) -> None:
    """/ready says at once that the server ends, and whoever has not looked yet is answered; then new ones are refused."""
    with (
        scripted_engine(answer="word " * 60, tokens_per_s=40) as engine,
        serving(settings, engine, grace_s=60, notice_s=3600) as running,
    ):
        running.ask_to_end()
        ready = running.client.get("/ready")
        with httpx.Client(base_url=running.client.base_url, timeout=60.0, trust_env=False) as newcomer:
            served = newcomer.post("/v1/chat/completions", json={**CHAT, "max_tokens": 1})
            with newcomer.stream("POST", "/v1/chat/completions", json=STREAMED) as response:
                lines = response.iter_lines()
                next(lines)
                # As if the notice were over.
                running.server.refuses_from = 0.0
                while (refused := running.client.post("/v1/chat/completions", json=CHAT)).status_code == 200:
                    continue
                last = [line for line in lines if line][-1]
        while "engine stopped" not in running.events:
            time.sleep(0.01)

    assert (ready.status_code, ready.json()["status"]) == (503, "shutting_down")
    assert served.status_code == 200
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
    assert last == "data: [DONE]"


def test_answers_in_the_background_are_finished_too(settings: Settings, scripted_engine: StartEngine) -> None:
    """A response that was queued before is completed, though no connection waits for it, and the next server has it."""
    body = {"model": "scripted", "input": "one two three", "background": True}
    with scripted_engine(answer="word " * 60, tokens_per_s=40) as engine:
        with serving(settings, engine, grace_s=60) as running:
            queued = running.client.post("/v1/responses", json=body).json()
            running.ask_to_end()
            while "engine stopped" not in running.events:
                time.sleep(0.01)
        with serving(settings, engine, grace_s=0) as running:
            told = running.client.get(f"/v1/responses/{queued['id']}").json()

    assert queued["status"] in ("queued", "in_progress")
    assert told["status"] == "completed"


@pytest.mark.parametrize("stream", [True, False])
def test_what_outlasts_the_grace_time_is_told(settings: Settings, scripted_engine: StartEngine, stream: bool) -> None:
    """A stream gets an error event and its end, a whole answer 503."""
    with (
        scripted_engine(answer="word " * 4000, tokens_per_s=20) as engine,
        serving(settings, engine, grace_s=0.5) as running,
    ):
        answers: list[httpx.Response] = []
        body = {**CHAT, "stream": stream}
        asking = threading.Thread(target=lambda: answers.append(running.client.post("/v1/chat/completions", json=body)))
        asking.start()
        _wait_for(engine, "running", 1)
        time.sleep(0.2)
        running.ask_to_end()
        asking.join()
        _wait_for(engine, "running", 0)

    (answer,) = answers
    error = json.loads(answer.text.split("\n\n")[-2].removeprefix("data: ") if stream else answer.text)["error"]
    assert answer.status_code == (200 if stream else 503)
    assert error["code"] == "shutting_down"


def test_sigterm_ends_a_real_server_after_its_streams(tmp_path: Path, scripted_engine: StartEngine) -> None:
    """The process itself: SIGTERM in mid-stream, the stream to its end, and then the process by that signal."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with scripted_engine(answer="word " * 60, tokens_per_s=40) as engine:
        environment = {**os.environ, "RAG_DATA_DIR": str(tmp_path / "data"), "RAG_ENGINE__BASE_URL": engine}
        command = [sys.executable, "-m", "rag_server.cli", "serve", "--port", str(port)]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0, trust_env=False) as client:
                _wait_alive(client, process)
                with client.stream("POST", "/v1/chat/completions", json=STREAMED) as response:
                    lines = response.iter_lines()
                    next(lines)
                    process.send_signal(signal.SIGTERM)
                    while (ready := client.get("/ready").json()["status"]) != "shutting_down":
                        time.sleep(0.01)
                    last = [line for line in lines if line][-1]
            process.wait(120)
        finally:
            process.kill()
            log = process.communicate()[1]

    assert ready == "shutting_down"
    assert last == "data: [DONE]"
    assert process.returncode == -signal.SIGTERM
    assert "Traceback" not in log


def _wait_alive(client: httpx.Client, process: "subprocess.Popen[str]") -> None:
    while True:
        assert process.poll() is None
        with contextlib.suppress(httpx.HTTPError):
            if client.get("/health").status_code == 200:
                return
        time.sleep(0.05)
