"""Children never outlive this process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from rag_server.child_process import ChildProcess, last_lines

# Starts a grandchild in a session of its own; both ignore SIGTERM and tell their process ids.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) == 1:
    subprocess.Popen([sys.executable, __file__, "grandchild"], start_new_session=True)
print(os.getpid(), flush=True)
time.sleep(600)
"""


def wait_for(condition: Callable[[], object]) -> object:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.02)
    raise AssertionError("it did not come to pass")


@pytest.fixture
def stubborn(tmp_path: Path) -> list[str]:
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    return [sys.executable, str(tmp_path / "stubborn.py")]


def two_pids(log: Path) -> list[int] | None:
    pids = log.read_text().split() if log.exists() else []
    return [int(pid) for pid in pids] if len(pids) == 2 else None


def all_gone(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids)


def test_stop_ends_the_whole_tree(tmp_path: Path, stubborn: list[str]) -> None:
    """A child and a grandchild in another session that ignore SIGTERM are gone when stop returns."""
    child = ChildProcess(stubborn, log_path=tmp_path / "log", grace_s=0.2)
    pids = wait_for(lambda: two_pids(tmp_path / "log"))
    child.stop()

    assert all_gone(pids)
    assert child.exit_status() == 128 + signal.SIGKILL


def test_tree_ends_when_the_parent_is_killed(tmp_path: Path, stubborn: list[str]) -> None:
    """After kill -9 of the parent nothing of the tree is left."""
    parent = tmp_path / "parent.py"
    parent.write_text(
        "import sys, time\nfrom pathlib import Path\nfrom rag_server.child_process import ChildProcess\n"
        f"ChildProcess({stubborn!r}, log_path=Path({str(tmp_path / 'log')!r}), grace_s=0.2)\ntime.sleep(600)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ["PYTHONPATH"]])}
    with subprocess.Popen([sys.executable, str(parent)], env=environment) as process:
        pids = wait_for(lambda: two_pids(tmp_path / "log"))
        family = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        process.kill()
    wait_for(lambda: all_gone([*pids, *family]))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_child_ends_when_its_guard_is_killed(tmp_path: Path) -> None:
    """Even without its guard the child does not stay."""
    child = ChildProcess(
        [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"], log_path=tmp_path / "log"
    )
    wait_for((tmp_path / "log").read_text)
    pids = [process.pid for process in psutil.Process(child.pid).children(recursive=True)]
    os.kill(child.pid, signal.SIGKILL)
    wait_for(lambda: all_gone(pids))
    child.stop()


def test_log_of_the_run_before_is_kept(tmp_path: Path) -> None:
    """Each start begins a log, the one before it stays under .1, and exit statuses are told."""
    for text, status in (("first", 0), ("second", 7)):
        child = ChildProcess(
            [sys.executable, "-c", f"print('{text}'); exit({status})"], log_path=tmp_path / "logs" / "child.log"
        )
        wait_for(lambda child=child: child.exit_status() is not None)
        assert child.exit_status() == status
        child.stop()

    assert last_lines(tmp_path / "logs" / "child.log") == "second"
    assert last_lines(tmp_path / "logs" / "child.log.1") == "first"
    assert last_lines(tmp_path / "missing") == ""
