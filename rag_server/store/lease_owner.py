"""Names this process in leases, so that others on its machine see at once when it has ended."""

import os
import secrets
from pathlib import Path

PROC = Path("/proc")
ENDED = ("Z", "X")


def new_owner() -> str:
    """Return a name that nothing else has; it says which process this is where the system tells."""
    pid = os.getpid()
    started, machine = _started(pid), _machine()
    random = secrets.token_hex(8)
    return random if started is None or machine is None else f"{random} {pid} {started} {machine}"


def has_ended(owner: str) -> bool:
    """Return whether the process of that name is known to have ended; of other machines nothing is known."""
    _, *process = owner.split(" ", 3)
    if len(process) != 3:
        return False
    pid, started, machine = process
    return machine == _machine() and _started(int(pid)) != started


def _machine() -> str | None:
    """Return what tells this boot of this system, and what counts its processes, from all others."""
    try:
        return f"{(PROC / 'sys/kernel/random/boot_id').read_text().strip()} {(PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """Return when a process started, in ticks since boot, None where it has ended."""
    try:
        # Its name stands in brackets before and may hold anything.
        state, *fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in ENDED else fields[18]
