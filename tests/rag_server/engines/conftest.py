"""The packaged model, converted once for all tests of engines."""

import subprocess
import sys
from pathlib import Path

import pytest

from rag_server.engines.smollm2_weights import MODEL_NAME


@pytest.fixture(scope="session")
def converted_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Hugging Face folder of the packaged weights, made as the server makes it, which takes half a minute."""
    folder = tmp_path_factory.mktemp("models") / MODEL_NAME
    subprocess.run([sys.executable, "-m", "rag_server.engines.smollm2_weights", str(folder)], check=True)
    return folder
