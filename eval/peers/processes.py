"""Starts the processes that are measured, waits until they answer, and sees how much memory they take."""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import psutil

from rag_server.errors import RagServerError

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".venv-peers"
SAMPLE_S = 0.25
# On a machine that others use too.
START_TIMEOUT_S = 900.0
END_TIMEOUT_S = 60.0
BYTES_PER_MB = 1e6
# Nothing is fetched and nothing is told to anybody while speed is measured.
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "LANGSMITH_TRACING": "false",
    "DO_NOT_TRACK": "1",
}


class MemoryWatch:
    """Remembers the most memory that a process and its children took together, in MB."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak_mb = 0.0

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            self.peak_mb = max(self.peak_mb, tree_memory_mb(self._process))


def tree_memory_mb(process: psutil.Process) -> float:
    """Return what the process and its children take; of pages that they share each counts its share."""
    total = 0.0
    with contextlib.suppress(psutil.Error):
        for member in (process, *process.children(recursive=True)):
            # One may just be ending.
            with contextlib.suppress(psutil.Error):
                total += member.memory_full_info().pss / BYTES_PER_MB
    return total


def peer_python(name: str) -> Path:
    """Return the Python of the peer's environment.

    Raises:
        RagServerError: It is not installed.
    """
    python = ENVIRONMENTS / name / "bin" / "python"
    if not (python.parent.parent / ".installed").is_file():
        raise RagServerError(f"{name} is not installed; `make bench-peers` installs every peer into {ENVIRONMENTS}")
    return python


def peer_environment() -> dict[str, str]:
    """Return the environment variables of a peer's process."""
    return {**os.environ, **QUIET, "PYTHONPATH": str(ROOT)}


@contextlib.contextmanager
def serving(
    command: Sequence[str], ready_url: str, *, log: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the end of the context, from when it answers.

    Raises:
        RagServerError: It ends, or does not answer in time.
    """
    with log.open("ab") as errors:
        running = subprocess.Popen(list(command), env=dict(environment), cwd=ROOT, stdout=errors, stderr=errors)
        try:
            _wait_until_up(running, ready_url, log)
            yield running
        finally:
            end(running)


def end(running: subprocess.Popen[bytes]) -> None:
    """End the process, at once if it does not go by itself."""
    running.terminate()
    try:
        running.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()


def _wait_until_up(running: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _is_up(url):
        if running.poll() is not None or time.monotonic() > deadline:
            raise RagServerError(f"{url} does not answer; why is in {log}")
        time.sleep(0.1)


def _is_up(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False
