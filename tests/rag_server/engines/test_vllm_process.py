"""The supervisor: with a scripted engine as its child, and once with the real vLLM."""

import asyncio
import importlib.metadata
import json
import os
import re
import signal
import string
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest
import structlog

from rag_server.engines import vllm_process
from rag_server.engines.vllm_process import VllmProcess
from rag_server.engines.vllm_tasks import GENERATE, RERANK, VllmTask
from rag_server.errors import ConfigError
from rag_server.model_registry import ModelRegistry
from rerankers.permutation_constraint import PermutationConstraint, encode
from tests.adapters import make_adapter, make_model

SCRIPTED = [sys.executable, "-m", "rag_server.cli", "scripted-engine"]
WAIT_S = 60
# An engine that is up, but answers with what is no list of models.
SHAPELESS = """
import http.server, sys

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

http.server.HTTPServer(("127.0.0.1", int(sys.argv[-1])), Answer).serve_forever()
"""
# What the connector of a vLLM started like ours says to each of the URLs.
ASK_CONNECTOR = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.multimodal.media.connector import MediaConnector
from vllm.utils.argparse_utils import FlexibleArgumentParser

arguments, urls = json.loads(sys.argv[1])
set_up = make_arg_parser(FlexibleArgumentParser()).parse_args(arguments)
connector = MediaConnector(
    allowed_local_media_path=set_up.allowed_local_media_path, allowed_media_domains=set_up.allowed_media_domains
)
for url in urls:
    try:
        print("ANSWER", connector.fetch_image(url).size)
    except Exception as error:
        print("ANSWER", type(error).__name__, error)
"""


@pytest.fixture
async def supervised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[VllmProcess]:
    """A supervisor of a scripted engine that does not wait long between tries."""
    monkeypatch.setattr(vllm_process, "FIRST_DELAY_S", 0.05)
    monkeypatch.setattr(vllm_process, "POLL_S", 0.05)
    process = VllmProcess(tmp_path, command=SCRIPTED)
    yield process
    await process.stop()


async def ready(process: VllmProcess) -> None:
    await asyncio.wait_for(process.wait_ready(), WAIT_S)


async def test_child_is_warmed_up_before_it_is_ready(supervised: VllmProcess) -> None:
    """Ready means that the child has answered a completion."""
    supervised.start()
    first = supervised.detail
    await ready(supervised)

    assert first != "ready"
    async with httpx.AsyncClient() as client:
        stats = (await client.get(supervised.base_url.replace("/v1", "/scripted/stats"))).json()

    assert stats == {"requests": 1, "finished": 1, "aborted": 0, "running": 0}


async def test_killed_child_is_started_again(supervised: VllmProcess) -> None:
    """A child that dies is replaced, and until then the supervisor is not ready."""
    supervised.start()
    await ready(supervised)
    before = supervised.base_url
    for child in psutil.Process(supervised._child.pid).children():
        child.kill()
    while supervised.ready:
        await asyncio.sleep(0.01)
    during = supervised.detail
    await ready(supervised)

    assert "ended with status 137" in during
    assert "the server's log says more" in during
    assert str(supervised.log_path.parent) not in during
    assert supervised.base_url != before


async def test_failing_child_waits_longer_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that cannot start is tried again after delays that double up to a limit."""
    delays: list[str] = []
    monkeypatch.setattr(vllm_process, "FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(vllm_process, "LONGEST_DELAY_S", 0.04)
    monkeypatch.setattr(vllm_process, "POLL_S", 0.01)
    process = VllmProcess(tmp_path, command=[sys.executable, "-c", "print('no such model'); raise SystemExit(3)"])
    sleep = asyncio.sleep

    async def record(seconds: float) -> None:
        if "starting again" in process.detail:
            delays.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr(vllm_process.asyncio, "sleep", record)
    process.start()
    while len(delays) < 4:
        await sleep(0.01)
    detail = process.detail
    await process.stop()

    assert delays[:4] == [0.01, 0.02, 0.04, 0.04]
    assert "ended with status 3" in detail
    assert "no such model" in process.log_path.read_text()


@pytest.mark.parametrize(("broken", "fault"), [("answer", "KeyError"), ("config", "JSONDecodeError")])
async def test_whatever_goes_wrong_it_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, fault: str
) -> None:
    """Faults that nobody thought of end in the log, with their trace, and do not end the supervision."""
    monkeypatch.setattr(vllm_process, "FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(vllm_process, "POLL_S", 0.01)
    monkeypatch.setattr(vllm_process, "_runs_on_cpu", lambda: True)
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"max_position_embeddings": ')
    command = [sys.executable, "-c", SHAPELESS] if broken == "answer" else None
    process = VllmProcess(tmp_path / "data", model=model, command=command)

    with structlog.testing.capture_logs() as logs:
        process.start()
        while len(failures := [line for line in logs if line["event"] == "engine failed"]) < 2 and not process._task.done():
            await asyncio.sleep(0.01)
    told = [line for line in logs if line["event"] == "engine supervision failed"]
    running = not process._task.done()
    await process.stop()

    assert running
    assert [line["reason"] for line in failures] == [f"vLLM failed with {fault}"] * 2
    assert told[0]["exc_info"]


def model_folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize("task", [GENERATE, RERANK], ids=lambda task: task.name)
@pytest.mark.parametrize("on_cpu", [True, False])
async def test_vllm_is_told_to_fetch_no_media(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: VllmTask, on_cpu: bool
) -> None:
    """No host is allowed, no folder is, and no redirect is followed, whatever the server's own environment says."""
    monkeypatch.setattr(vllm_process, "_runs_on_cpu", lambda: on_cpu)
    monkeypatch.setenv("VLLM_MEDIA_URL_ALLOW_REDIRECTS", "1")
    command = await VllmProcess(tmp_path, model=model_folder(tmp_path), task=task)._vllm_command()
    domain = command[command.index("--allowed-media-domains") + 1]

    # An empty list, or a name that someone may have, allows something.
    assert ":" in domain
    assert "--allowed-local-media-path" not in command
    assert vllm_process._environment(1)["VLLM_MEDIA_URL_ALLOW_REDIRECTS"] == "0"


async def test_vllm_is_told_of_adapters_only_if_there_are_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adapters of the model are served under their names, one of another model is not; without any, vLLM has no LoRA."""
    monkeypatch.setattr(vllm_process, "_runs_on_cpu", lambda: True)
    model = make_model(tmp_path / "model")
    folders = {"mine": make_adapter(tmp_path / "mine"), "other": make_adapter(tmp_path / "other", layer="model.layers.9.x")}
    command = await VllmProcess(tmp_path, model=model, adapters=folders)._vllm_command()
    plain = await VllmProcess(tmp_path, model=model)._vllm_command()
    place = command.index("--lora-modules")

    assert "--enable-lora" in command
    assert json.loads(command[place + 1]) == {"name": "mine", "path": str(folders["mine"])}
    assert command[place + 2] == "--max-model-len"
    assert not [word for word in plain if "lora" in word]


@pytest.mark.vllm
def test_vllm_with_that_command_fetches_no_media(tmp_path: Path) -> None:
    """Its own parser and its own connector refuse every host, this machine's files, and nothing else."""
    command = asyncio.run(VllmProcess(tmp_path, model=model_folder(tmp_path))._vllm_command())
    arguments = command[command.index("--model") :]
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    hosts = ("http://127.0.0.1:9/a", "HTTPS://x.example/a", "http:///a", "http://none/a", "http://none:1/a")
    urls = [f"data:image/png;base64,{pixel}", *hosts, f"file://{tmp_path}/config.json"]
    asked = [sys.executable, "-c", ASK_CONNECTOR, json.dumps([arguments, urls])]
    env = vllm_process._environment(1)
    told = subprocess.run(asked, env=env, capture_output=True, text=True, timeout=300)

    answers = [line.removeprefix("ANSWER ") for line in told.stdout.splitlines() if line.startswith("ANSWER ")]
    assert answers[0] == "(1, 1)", told.stderr
    assert len(answers) == len(urls)
    assert all(answer.startswith("ValueError The URL must be from one of the allowed domains") for answer in answers[1:-1])
    assert answers[-1].startswith("RuntimeError Cannot load local files")


async def test_stop_leaves_no_process(supervised: VllmProcess) -> None:
    """After stop the guard and the child are gone."""
    supervised.start()
    await ready(supervised)
    guard = psutil.Process(supervised._child.pid)
    children = guard.children(recursive=True)
    await supervised.stop()

    assert not guard.is_running()
    assert not any(child.is_running() for child in children)


async def test_missing_vllm_is_told_and_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without vLLM the supervisor says how to install it, and stops trying."""

    def nothing_installed(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", nothing_installed)
    process = VllmProcess(tmp_path)
    process.start()
    await asyncio.wait_for(process._task, WAIT_S)

    assert not process.ready
    assert "not installed" in process.detail
    assert "make install" in process.detail
    assert "RAG_ENGINE__BASE_URL" in process.detail


def test_folder_without_config_is_not_a_model(tmp_path: Path) -> None:
    """A model folder that is none is refused with the setting's name before anything starts."""
    with pytest.raises(ConfigError, match="RAG_ENGINE__MODEL"):
        VllmProcess(tmp_path, model=tmp_path)


class ConstrainedEngine:
    """Asks a real vLLM child of the server for rankings of twenty items."""

    NUM_ITEMS = 20

    def __init__(self, server: psutil.Process) -> None:
        commands = [child.cmdline() for child in server.children(recursive=True)]
        command = next(command for command in commands if "vllm.entrypoints.openai.api_server" in command)
        port = command[command.index("--port") + 1]
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300, trust_env=False)

    def tokens(self, text: str) -> tuple[int, ...]:
        """Return the tokens of `text` where it follows a word."""
        asked = [{"prompt": prompt, "add_special_tokens": False} for prompt in ("x", f"x{text}")]
        before, whole = (self.http.post("/tokenize", json=body).json()["tokens"] for body in asked)
        assert whole[: len(before)] == before
        return tuple(whole[len(before) :])

    def constraints(self) -> dict[str, PermutationConstraint]:
        """Return the constraint of one letter per item, and of the form `[7] > [3]`."""
        letters = tuple(self.tokens(f" {letter}") for letter in string.ascii_uppercase[: self.NUM_ITEMS])
        numbers = range(1, self.NUM_ITEMS + 1)
        first, later = (tuple(self.tokens(f"{before}[{number}]") for number in numbers) for before in ("", " > "))
        return {
            "compact": PermutationConstraint(letters, letters, self.NUM_ITEMS),
            "paper": PermutationConstraint(first, later, self.NUM_ITEMS),
        }

    def say(self, model: str) -> str:
        """Return what a model says."""
        body = {"model": model, "messages": [{"role": "user", "content": "Count to ten."}], "temperature": 0, "max_tokens": 12}
        return self.http.post("/v1/chat/completions", json=body).raise_for_status().json()["choices"][0]["message"]["content"]

    def said(self, adapter: str) -> dict[str, str]:
        """Return what the engine's model and an adapter of it say, each alone and both at once."""
        listed = [model["id"] for model in self.http.get("/v1/models").json()["data"]]
        assert listed[1:] == ["smollm2-135m-rag", adapter]
        with ThreadPoolExecutor() as both:
            alone = {"model": self.say(listed[0]), "adapter": self.say(adapter)}
            together = list(both.map(self.say, [adapter, listed[0], adapter, listed[0]]))
        return {**alone, "adapter beside": together[0], "model beside": together[1]}

    def ask(self, constraint: str) -> httpx.Response:
        """Return the answer to a request that carries `constraint`."""
        body = {
            "model": self.http.get("/v1/models").json()["data"][0]["id"],
            "messages": [{"role": "user", "content": "Say which is the best, and why."}],
            "temperature": 0,
            "max_tokens": 200,
            "return_token_ids": True,
            "vllm_xargs": {"rag_permutation": constraint},
        }
        return self.http.post("/v1/chat/completions", json=body)

    def outputs(self) -> dict[str, object]:
        """Return the choices by form and number of ranked items, and the answer to a malformed constraint."""
        answers: dict[str, object] = {"malformed": self.ask('{"first": [[1]], "later": [[1]], "num_ranked": 2}')}
        for form, constraint in self.constraints().items():
            for num_ranked in (5, self.NUM_ITEMS):
                answer = self.ask(encode(replace(constraint, num_ranked=num_ranked)))
                answers[f"{form} {num_ranked}"] = answer.raise_for_status().json()["choices"][0]
        return answers


def check_rankings(answers: dict[str, object]) -> None:
    """Hold the answers of `ConstrainedEngine.outputs` against what was asked for."""
    assert answers["malformed"].status_code == 400
    assert "num_ranked must be from 1 to 1" in answers["malformed"].json()["error"]["message"]
    for num_ranked in (5, 20):
        letters, numbers = answers[f"compact {num_ranked}"], answers[f"paper {num_ranked}"]
        named = [int(number) for number in re.findall(r"\d+", numbers["message"]["content"])]

        assert letters["finish_reason"] == numbers["finish_reason"] == "stop"
        # The last token is the end.
        assert len(letters["token_ids"]) == num_ranked + 1
        assert re.fullmatch("( [A-T])+", letters["message"]["content"])
        assert len(set(letters["message"]["content"].split())) == num_ranked
        assert re.fullmatch(r"\[\d+\]( > \[\d+\])*", numbers["message"]["content"])
        assert len(named) == len(set(named)) == num_ranked
        assert set(named) <= set(range(1, 21))


def add_adapter(data_dir: Path, folder: Path) -> str:
    """Add an adapter of random numbers for the packaged model, and return its name."""
    layer, sizes = "model.layers.29.mlp.down_proj", (1536, 576)
    make_adapter(folder, layer=layer, sizes=sizes, lora_alpha=8, target_modules=["down_proj"])
    ModelRegistry(data_dir).add(folder, name="odd", kind="answerer", evaluation=None, force=True)
    return "odd"


@pytest.mark.vllm
def test_real_server_answers_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """With nothing but an added adapter the server brings up vLLM, which answers and ranks; kill -9 leaves nothing."""
    adapter = add_adapter(tmp_path / "data", tmp_path / "odd")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "start.md").write_text("# Starting\n\nTo start the server, run `make serve` in the project's folder.")
    environment = {**os.environ, "RAG_DATA_DIR": str(tmp_path / "data")}
    command = [sys.executable, "-m", "rag_server.cli", "serve", "--port", "0", "--index", str(tmp_path / "docs")]
    ask = [sys.executable, "-m", "rag_server.cli", "ask", "How do I start the server?", "--collection", "docs", "--json"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as server:
        try:
            while not (tmp_path / "data" / "server.json").exists():
                assert server.poll() is None
                time.sleep(0.1)
            answer = subprocess.run(ask, env=environment, capture_output=True, text=True, timeout=500)
            engine = ConstrainedEngine(psutil.Process(server.pid))
            with engine.http:
                said, rankings = engine.said(adapter), engine.outputs()
            family = psutil.Process(server.pid).children(recursive=True)
            names = {child.name() for child in family}
        finally:
            server.send_signal(signal.SIGKILL)
    gone, alive = psutil.wait_procs(family, timeout=30)

    check_rankings(rankings)
    assert said["model"] == said["model beside"] != said["adapter"] == said["adapter beside"]
    result = json.loads(answer.stdout)
    assert "make serve" in result["answer"]
    assert result["passages"][0]["filename"] == "start.md"
    assert result["citations"][0]["verified"]
    assert result["citations"][0]["quote"] in (tmp_path / "docs" / "start.md").read_text()
    assert any("VLLM" in name for name in names)
    assert any("valkey" in name for name in names)
    assert alive == []
    assert len(gone) == len(family)
