"""Runs a command that ends, with all of its descendants, when the process that started this guard ends, however that ends.

Started by `child_process.py` as a script of its own, with nothing but the standard library, so that it starts at once:

    python -I -S child_guard.py GRACE_S COMMAND...

Standard input is a pipe whose other end only the parent holds. Its end of file means: end the command.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from types import FrameType

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
POLL_S = 0.1
KILL_ROUNDS = 10


def main() -> int:
    """Run the command and return its exit status, as a shell would: 128 + n when signal n ended it."""
    grace_s = float(sys.argv[1])
    # Orphans of the command become our children, so that they can be found and ended too.
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    wakeup, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ignore)
    child = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_die_with_guard)  # noqa: PLW1509  (no threads here)
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
    """Send the signal to the command's process group and to every other descendant."""
    try:
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):
        pass
    for pid in _descendants():
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _descendants() -> list[int]:
    """Return the process ids of all living descendants; where there is no /proc the process group must do."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as stat:
                    # The second field, the command's name, may hold anything but ends at the last parenthesis.
                    state, parent = stat.read().rpartition(b")")[2].split()[:2]
                if state != b"Z":
                    parents[int(name)] = int(parent)
            except (OSError, ValueError):
                continue
    found = [os.getpid()]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


def _die_with_guard() -> None:
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing: the wake-up pipe tells the main loop."""


if __name__ == "__main__":
    sys.exit(main())
