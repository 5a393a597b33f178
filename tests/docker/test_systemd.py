"""The unit for systemd fits the server: its settings exist, and a stop waits for running requests."""

import shutil
import subprocess
from pathlib import Path

import pytest

from rag_server.config import LimitsSettings, load_settings
from tests.docker.deployment import DOCKER

UNIT = DOCKER / "systemd" / "rag-server.service"


def lines() -> dict[str, str]:
    """Return the unit's settings by name."""
    text = [line for line in UNIT.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in text)


def test_data_directory_is_the_units() -> None:
    """The server writes where the unit lets it, and listens on loopback unless it is told otherwise."""
    environment = dict(pair.split("=", 1) for pair in lines()["Environment"].split())

    settings = load_settings(environment)
    assert settings.data_dir == Path("/var/lib") / lines()["StateDirectory"]
    assert settings.host == "127.0.0.1"


def test_a_stop_waits_for_running_requests() -> None:
    """The server alone is asked to end, since its engine is still needed, and is killed later than its grace time ends."""
    assert lines()["KillMode"] == "mixed"
    assert int(lines()["TimeoutStopSec"]) >= LimitsSettings().shutdown_grace_s + 60


def test_systemd_takes_it(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd is not installed")
    unit = tmp_path / UNIT.name
    # The command is not installed there.
    unit.write_text(UNIT.read_text().replace(lines()["ExecStart"], "/bin/true"))
    run = subprocess.run([program, "verify", str(unit)], capture_output=True, text=True, check=False)

    assert (run.returncode, run.stderr) == (0, "")
