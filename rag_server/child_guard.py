"""Runs a command that ends, with all of its descendants, when the process that started this guard ends, however that ends.

Started by `child_process.py` as a script of its own, with nothing but the standard library, so that it starts at once:

    python -I -S child_guard.py GRACE_S COMMAND...

Standard input is a pipe whose other end only the parent holds. Its end of file means: end the command.
"""

import ctypes
import os
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
POLL_S = 0.1
KILL_ROUNDS = 10
# What a shell answers for a command that it cannot find.
COMMAND_NOT_STARTED = 127


class _Process(NamedTuple):
    pid: int
    parent: int
    group: int
    session: int


def main() -> int:
    """Run the command and return its exit status, as a shell would: 128 + n when signal n ended it."""
    grace_s = float(sys.argv[1])
    # Orphans of the command become our children, so that they can be found and ended too.
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    wakeup, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ignore)
    try:
        # A group of its own to be signalled, but the guard's session, by which the parent finds it should the guard be killed.
        child = subprocess.Popen(
            sys.argv[2:],
            stdin=subprocess.DEVNULL,
            process_group=0,
            preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509  (no threads here)
        )
    except (OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"cannot start {shlex.join(sys.argv[2:])}: {error}\n")
        return COMMAND_NOT_STARTED
    while child.poll() is None:
        readable, _, _ = select.select([sys.stdin.buffer, wakeup], [], [])
        woken_by = os.read(wakeup, 512) if wakeup in readable else b""
        if sys.stdin.buffer in readable or signal.SIGTERM in woken_by or signal.SIGINT in woken_by:
            _signal_all(child.pid, signal.SIGTERM)
            _wait(child, grace_s)
            break
    for _ in range(KILL_ROUNDS):
        # More than once, for what was being started while the first round went by.
        _signal_all(child.pid, signal.SIGKILL)
        if not _descendants():
            break
        time.sleep(POLL_S)
    status = child.wait()
    return status if status >= 0 else 128 - status


def _wait(child: "subprocess.Popen[bytes]", grace_s: float) -> None:
    deadline = time.monotonic() + grace_s
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _signal_all(leader: int, number: signal.Signals) -> None:
    """Send the signal to the command's process group and to every descendant outside it; to none of them twice.

    A second SIGTERM would break off the orderly end that the first one began.
    """
    try:
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):
        pass
    for process in _descendants():
        if process.group != leader:
            try:
                os.kill(process.pid, number)
            except ProcessLookupError:
                continue


def _descendants() -> list[_Process]:
    """Return all living descendants; where there is no /proc the process group must do."""
    processes = _processes()
    found: dict[int, _Process] = {}
    ancestors = {os.getpid()}
    # What was found is left out: the list was not taken in one moment, so that a process id in it may stand for two processes.
    while level := {process.pid: process for process in processes if process.parent in ancestors and process.pid not in found}:
        found |= level
        ancestors = set(level)
    return list(found.values())


def kill_session(session: int) -> None:
    """Kill what a guard that was itself killed has left behind; for its parent, which knows the guard's session."""
    for process in _processes():
        if process.session == session:
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _processes() -> list[_Process]:
    """Return all living processes; none where there is no /proc."""
    found = []
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as stat:
                    # The second field, the command's name, may hold anything but ends at the last parenthesis.
                    state, parent, group, session = stat.read().rpartition(b")")[2].split()[:4]
                if state != b"Z":
                    found.append(_Process(int(name), int(parent), int(group), int(session)))
            except (OSError, ValueError):
                continue
    return found


def _die_with(guard: int) -> Callable[[], None]:
    def run_in_child() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:
            # It was killed before the call above, so that no signal will come.
            os._exit(COMMAND_NOT_STARTED)

    return run_in_child


def prctl(option: int, value: int) -> None:
    """Set something of this process that only Linux knows; elsewhere do nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing: the wake-up pipe tells the main loop."""


if __name__ == "__main__":
    sys.exit(main())
