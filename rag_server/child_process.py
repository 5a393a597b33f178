"""Starts a child process that cannot outlive this one, not even when this one is killed."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rag_server.child_guard import kill_session

GUARD = Path(__file__).with_name("child_guard.py")
GRACE_S = 10.0


class ChildProcess:
    """A command under a guard. The guard holds a pipe from this process; when it closes, the whole tree is ended."""

    def __init__(
        self, command: Sequence[str], *, log_path: Path, env: Mapping[str, str] | None = None, grace_s: float = GRACE_S
    ) -> None:
        """Start the command.

        Args:
            command: The program and its arguments.
            log_path: Takes what the command prints; what an earlier one printed is kept in a file ending in `.1`.
            env: Its environment; None means this process's.
            grace_s: The time between asking the command to end and killing it.
        """
        log_path.parent.mkdir(parents=True, exist_ok=True)
        if log_path.exists():
            log_path.replace(log_path.with_name(f"{log_path.name}.1"))
        self.log_path = log_path
        self._grace_s = grace_s
        self._orphans_ended = False
        with log_path.open("wb") as output:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", str(GUARD), str(grace_s), *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                # A Ctrl-C at the terminal is for us; the child is then ended in order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The guard's process id; the command and its descendants are below it."""
        return self._guard.pid

    def exit_status(self) -> int | None:
        """Return the command's exit status, or None while it runs; negative when the guard was killed, and all with it."""
        status = self._guard.poll()
        if status is not None and self._guard.stdin is not None:
            # Whoever asks may never call stop() for a command that has ended by itself.
            self._guard.stdin.close()
        if status is not None and status < 0:
            self._end_orphans()
        return status

    def stop(self) -> None:
        """End the command and all of its descendants; they are gone when this returns."""
        if self._guard.stdin is not None and not self._guard.stdin.closed:
            self._guard.stdin.close()
        try:
            self._guard.wait(self._grace_s + GRACE_S)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        self.exit_status()

    def _end_orphans(self) -> None:
        if not self._orphans_ended:
            self._orphans_ended = True
            kill_session(self._guard.pid)


def last_lines(log_path: Path, *, num_lines: int = 5) -> str:
    """Return the end of a child's log, for an error message."""
    try:
        with log_path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-num_lines:])
