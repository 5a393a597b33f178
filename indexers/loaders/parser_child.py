"""The parser process as its owner sees it: started, asked, listened to for so long, ended."""

import json
import os
import selectors
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO, cast

from indexers.loaders.parser_protocol import LENGTH_BYTES, MIB, Limits, ProtocolError, Reply, decode, write_frame
from rag_server.errors import RagServerError

WORKER = "indexers.loaders.parser_worker"
SOURCES = Path(__file__).parents[2]
# Beside other work, on a slow disk.
START_S = 60.0
EXIT_S = 5.0
PIPE_BYTES = MIB
PRINTED_BYTES = 4096


class ParserChild:
    """A running `parser_worker`. It ends with the thread that started it, if not before."""

    def __init__(self, limits: Limits, dispatch: str) -> None:
        """Start it and wait until it has started.

        Args:
            limits: What a file may take.
            dispatch: The module whose `load` reads a file.

        Raises:
            RagServerError: It does not start.
        """
        self._starter = threading.current_thread()
        self.num_files = 0
        self.is_ready = False
        self._max_reply_bytes = limits.text_bytes
        self._received = bytearray()
        self._printed = b""
        self._process = subprocess.Popen(
            # -P: the folder that is indexed, which may be the working directory, holds no modules of ours.
            [sys.executable, "-P", "-m", WORKER, json.dumps(asdict(limits)), dispatch],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=_environment(),
            # A Ctrl-C at the terminal is for us, and does not make the file unreadable.
            start_new_session=True,
        )
        self._stdin = cast("IO[bytes]", self._process.stdin)
        self._stdout = cast("IO[bytes]", self._process.stdout)
        self._stderr = cast("IO[bytes]", self._process.stderr)
        os.set_blocking(self._stderr.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stdout, selectors.EVENT_READ)
        self._selector.register(self._stderr, selectors.EVENT_READ)
        try:
            self.receive(START_S)
        except (TimeoutError, EOFError, ProtocolError) as error:
            self.end()
            raise RagServerError(f"the parser process does not start: {self._printed_line() or error}") from error

    def send(self, path: Path) -> None:
        """Ask for a file."""
        self.is_ready = False
        self.num_files += 1
        try:
            write_frame(self._stdin, os.fsencode(path))
        except BrokenPipeError:
            # It has just ended; receiving from it tells how.
            return

    def receive(self, timeout_s: float) -> Reply:
        """Return its next reply.

        Raises:
            TimeoutError: It has not come in time.
            EOFError: The process has ended, or closed its pipe.
            ProtocolError: It is no reply.
        """
        deadline = time.monotonic() + timeout_s
        while (payload := self._take_frame()) is None:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                raise TimeoutError
            for key, _ in self._selector.select(remaining_s):
                if key.fileobj is self._stdout:
                    self._read_reply()
                else:
                    self._read_printed()
        return decode(payload)

    def is_alive(self) -> bool:
        """Tell whether the process runs, and will go on: once its thread has ended, the system is about to kill it."""
        return self._starter.is_alive() and self._process.poll() is None

    def exit_status(self) -> int:
        """Return the exit status of a process that closed its pipe; the number of the signal that ended it is negative."""
        try:
            return self._process.wait(EXIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def last_line(self) -> str:
        """Return the last line that it printed since the last call."""
        self._read_printed()
        line = self._printed_line()
        self._printed = b""
        return line

    def end(self) -> None:
        """Kill it; it holds nothing that could be lost."""
        self._process.kill()
        self._process.wait()
        self._read_printed()
        self._selector.close()
        for pipe in (self._stdin, self._stdout, self._stderr):
            pipe.close()

    def _take_frame(self) -> bytes | None:
        if len(self._received) < LENGTH_BYTES:
            return None
        end = LENGTH_BYTES + int.from_bytes(self._received[:LENGTH_BYTES], "big")
        if end - LENGTH_BYTES > self._max_reply_bytes:
            raise ProtocolError(f"{end} bytes in one reply")
        if len(self._received) < end:
            return None
        payload = bytes(self._received[LENGTH_BYTES:end])
        del self._received[:end]
        return payload

    def _read_reply(self) -> None:
        data = os.read(self._stdout.fileno(), PIPE_BYTES)
        if not data:
            raise EOFError
        self._received += data

    def _read_printed(self) -> None:
        """Keep the end of what it printed, one read of it, since it may print faster than that."""
        try:
            data = os.read(self._stderr.fileno(), PIPE_BYTES)
        except BlockingIOError:
            return
        self._printed = (self._printed + data)[-PRINTED_BYTES:]
        if not data and self._stderr in self._selector.get_map():
            self._selector.unregister(self._stderr)

    def _printed_line(self) -> str:
        lines = self._printed.decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(SOURCES), os.environ.get("PYTHONPATH")]))
    # A thread's stack for each core would be counted as memory of the file.
    return {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
