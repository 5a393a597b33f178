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
    return all(map(is_gone, pids))


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


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


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died, and lists a session")
def test_tree_ends_when_its_guard_is_killed(tmp_path: Path) -> None:
    """Without its guard the command does not stay, nor what it has started, as soon as its status is asked for."""
    log, grandchild = tmp_path / "log", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {grandchild!r}]); {grandchild}"
    child = ChildProcess([sys.executable, "-c", code], log_path=log)
    pids = wait_for(lambda: two_pids(log))
    os.kill(child.pid, signal.SIGKILL)

    assert wait_for(child.exit_status) == -signal.SIGKILL
    wait_for(lambda: all_gone(pids))
    child.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="without /proc only the process group can be found")
def test_ended_command_leaves_nothing_behind(tmp_path: Path) -> None:
    """When the command ends by itself, what it has started and left is ended too, also in a session of its own."""
    log, grandchild = tmp_path / "log", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    code = (
        "import subprocess, sys, time\n"
        f"for apart in (False, True): subprocess.Popen([sys.executable, '-c', {grandchild!r}], start_new_session=apart)\n"
        f"while len(open({str(log)!r}).read().split()) < 2: time.sleep(0.01)"
    )
    child = ChildProcess([sys.executable, "-c", code], log_path=log)
    wait_for(lambda: child.exit_status() is not None)

    assert child.exit_status() == 0
    assert all_gone([int(pid) for pid in log.read_text().split()])
    child.stop()


def test_stop_lets_the_command_end_in_order(tmp_path: Path) -> None:
    """The command is asked once, ends in its own way, and is not kept waiting."""
    log = tmp_path / "log"
    # A second signal while Python ends, when it heeds none of its handlers, would change the status.
    code = (
        "import atexit, signal, sys, time\nend = lambda *_: sys.exit(5)\nsignal.signal(signal.SIGTERM, end)\n"
        "atexit.register(print, 'in order')\nprint('up', flush=True)\ntime.sleep(600)"
    )
    child = ChildProcess([sys.executable, "-c", code], log_path=log, grace_s=30.0)
    wait_for(lambda: log.read_text() == "up\n")
    started = time.monotonic()
    child.stop()

    assert child.exit_status() == 5
    assert log.read_text() == "up\nin order\n"
    assert time.monotonic() - started < 30.0


def test_stop_again_does_nothing(tmp_path: Path) -> None:
    """Stopping what has ended, and stopping twice, is harmless and keeps the status."""
    child = ChildProcess([sys.executable, "-c", "raise SystemExit(3)"], log_path=tmp_path / "log")
    wait_for(lambda: child.exit_status() is not None)
    child.stop()
    child.stop()

    assert child.exit_status() == 3


def test_command_ended_by_a_signal_has_a_shells_status(tmp_path: Path) -> None:
    """A command that signal n ended has status 128 + n."""
    child = ChildProcess([sys.executable, "-c", "import os; os.abort()"], log_path=tmp_path / "log")

    assert wait_for(child.exit_status) == 128 + signal.SIGABRT
    child.stop()


def test_missing_command_is_named_in_the_log(tmp_path: Path) -> None:
    """A command that cannot be started is a status and one line in the log, not a traceback."""
    child = ChildProcess(["/no/such/program", "--flag"], log_path=tmp_path / "log")

    assert wait_for(child.exit_status) == 127
    assert last_lines(tmp_path / "log").startswith("cannot start /no/such/program --flag: ")
    assert len((tmp_path / "log").read_text().splitlines()) == 1
    child.stop()


def test_command_sees_only_what_is_given(tmp_path: Path) -> None:
    """The command has the given environment, nothing to read, and no terminal of ours that could interrupt it."""
    code = "import os, sys; print(os.environ.get('ONE'), os.environ.get('PATH'), repr(sys.stdin.read()), os.getsid(0))"
    child = ChildProcess([sys.executable, "-c", code], log_path=tmp_path / "log", env={"ONE": "1"})
    wait_for(lambda: child.exit_status() is not None)

    assert (tmp_path / "log").read_text() == f"1 None '' {child.pid}\n"
    assert child.pid != os.getsid(0)
    child.stop()


def test_children_are_independent(tmp_path: Path) -> None:
    """A child that was started later holds no earlier one's pipe open, nor does it end with it."""
    wait = [sys.executable, "-c", "import time; time.sleep(600)"]
    first, second = (ChildProcess(wait, log_path=tmp_path / name) for name in ("first", "second"))
    first.stop()

    assert first.exit_status() == 128 + signal.SIGTERM
    assert second.exit_status() is None
    second.stop()


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
