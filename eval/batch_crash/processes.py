"""The processes that are killed: `rag-server batch` with its Valkey, and the engine beside it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import psutil

from eval.bench.tools import free_port

POLL_S = 0.02
# Nothing here takes so long on a machine that works.
GIVE_UP_S = 120.0
# Has a process print what each of its threads does.
WHERE = signal.SIGUSR1


class Engine:
    """A scripted engine on a port of its own; some answers at a time, each of which takes a while."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self, *, answer_s: float = 0.0, at_once: int = 0) -> None:
        """Start it, or start it again after a kill; it answers some time later."""
        command = [sys.executable, "-m", "rag_server.cli", "scripted-engine", "--port", str(self.port)]
        command += ["--time-to-first-token-s", str(answer_s), "--max-running", str(at_once)]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        """Kill it, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Command:
    """`rag-server batch` over one input; what it prints is kept in `log`."""

    def __init__(self, folder: Path, source: Path, out: Path, *, collection: str, engine_url: str) -> None:
        self.out = out
        self.log = folder / f"{out.stem}.log"
        self._arguments = [str(source), str(out), "--collection", collection]
        others = {name: value for name, value in os.environ.items() if not name.startswith("RAG_")}
        # What a killed process leaves of its temporary files is removed with the folder.
        self._environment = {**others, "TMPDIR": str(folder), "RAG_DATA_DIR": str(folder / "data")}
        self._environment["RAG_ENGINE__BASE_URL"] = engine_url
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Call it."""
        with self.log.open("ab") as log:
            self._process = self._popen(log)

    def kill(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def wait(self, seconds: float) -> int:
        """Return its status once it has ended by itself.

        Raises:
            RuntimeError: It has not, after so many seconds; the message says where it stands.
        """
        if self._process is None:
            raise RuntimeError("start() comes first")
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise self.stuck() from None

    def stuck(self) -> RuntimeError:
        """Return an error that says where it stands."""
        if self._process is not None and self.is_running:
            self._process.send_signal(WHERE)
            time.sleep(1.0)
        return RuntimeError(f"the job does not go on: {self.log.read_text()[-10_000:]}")

    def kill_valkey(self) -> bool:
        """Kill its Valkey, once that runs; return whether it came to that before the command had ended."""
        gives_up_at = time.monotonic() + GIVE_UP_S
        while self.is_running and time.monotonic() < gives_up_at:
            pid = self._valkey()
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                return True
            time.sleep(POLL_S)
        return False

    def num_answers(self) -> int:
        """Return how many answers it has written."""
        return self.written().count(b"\n")

    def written(self) -> bytes:
        """Return the whole lines of its output."""
        content = self.out.read_bytes() if self.out.exists() else b""
        return content[: content.rfind(b"\n") + 1]

    def _popen(self, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "eval.batch_crash.command", "batch", *self._arguments]
        return subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)

    def _valkey(self) -> int | None:
        try:
            below = psutil.Process(self._process.pid).children(recursive=True) if self._process is not None else []
            # Its guard has the name in its arguments, too.
            return next((child.pid for child in below if child.name().startswith("valkey")), None)
        except psutil.Error:
            return None
