"""One live server for all clients: `rag-server serve` of the server's own environment, with a scripted engine behind it.

These tests run in an environment without the server (`make test-clients`); what they see of it is HTTP.
"""

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SERVER = Path(os.environ.get("RAG_TEST_SERVER", ROOT / ".venv" / "bin" / "rag-server"))
GUARD = ROOT / "tests" / "guard"
CONNECTIONS = Path(tempfile.mkdtemp(prefix="rag-clients-")) / "refused-connections"
STARTS_WITHIN_S = 180.0

# Before any client is imported: they report to nobody, look nothing up, and connect to loopback only.
for name in [name for name in os.environ if name.startswith(("RAG_", "OPENAI_", "CO_API")) or name.lower().endswith("_proxy")]:
    del os.environ[name]
os.environ |= {
    "TEST_CONNECTIONS_FILE": str(CONNECTIONS),
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LANGSMITH_TRACING": "false",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
}
_spec = importlib.util.spec_from_file_location("guard", GUARD / "sitecustomize.py")
_spec.loader.exec_module(importlib.util.module_from_spec(_spec))

HANDBOOK = {
    "harbour.md": "# Harbour\n\nThe harbour master is Ingrid Solberg. The harbour closes at ten in the evening.\n",
    "ferry.md": "# Ferry\n\nThe ferry to Utsira leaves at seven in the morning. A ticket costs ninety crowns.\n",
    "lighthouse.md": "# Lighthouse\n\nThe lighthouse was built in 1859. Its lamp is seen from twenty miles away.\n",
}


@dataclass(frozen=True)
class LiveServer:
    """Where the server is, and keys: of whoever indexed the handbook, and of another tenant."""

    url: str
    key: str
    foreign_key: str

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"


@pytest.fixture(scope="session", autouse=True)
def no_connection_beyond_loopback() -> Iterator[None]:
    """No client, and no process that a test starts, tries to reach another machine."""
    yield
    refused = CONNECTIONS.read_text() if CONNECTIONS.exists() else ""

    assert refused == ""


@pytest.fixture(scope="session")
def server() -> Iterator[LiveServer]:
    """The server, with the collection `handbook`, an engine model `scripted`, and a cross-encoder-free ranking."""
    with tempfile.TemporaryDirectory(prefix="rag-clients-") as folder, contextlib.ExitStack() as stack:
        handbook = Path(folder) / "handbook"
        handbook.mkdir()
        for name, text in HANDBOOK.items():
            (handbook / name).write_text(text)
        engine_port, port = _free_ports(2)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
            "PYTHONPATH": str(GUARD),
            "RAG_DATA_DIR": str(Path(folder) / "data"),
            "RAG_AUTH__REQUIRED": "true",
            "RAG_ENGINE__BASE_URL": f"http://127.0.0.1:{engine_port}/v1",
        }
        key, foreign_key = (_make_key(environment, tenant) for tenant in ("", "other"))
        stack.enter_context(_running([SERVER, "scripted-engine", "--port", str(engine_port)], environment))
        serve = [SERVER, "serve", "--port", str(port), "--index", str(handbook), "--collection", "handbook"]
        process = stack.enter_context(_running(serve, environment))
        live = LiveServer(f"http://127.0.0.1:{port}", key, foreign_key)
        _wait_until_ready(f"{live.url}/ready", process)
        yield live


def _make_key(environment: dict[str, str], tenant: str) -> str:
    command = [SERVER, "keys", "create", "clients", "--json", *(["--tenant", tenant] if tenant else [])]
    made = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return json.loads(made.stdout)["secret"]


@contextlib.contextmanager
def _running(command: list[object], environment: dict[str, str]) -> Iterator[subprocess.Popen]:
    with subprocess.Popen([str(word) for word in command], env=environment) as process:
        try:
            yield process
        finally:
            process.terminate()


def _wait_until_ready(url: str, process: subprocess.Popen) -> None:
    ends = time.monotonic() + STARTS_WITHIN_S
    reason = "it does not listen"
    while time.monotonic() < ends:
        assert process.poll() is None, "the server has ended"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError as error:
            reason = error.read().decode()
        except OSError as error:
            reason = str(error)
        time.sleep(0.1)
    pytest.fail(f"the server is not ready: {reason}")


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(number)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]
