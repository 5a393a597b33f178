"""The page with nothing scripted behind it: `rag-server serve`, its worker, and vLLM with the packaged model."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from tests.ui.chatting import answers, composer, mark, text_of
from tests.ui.conftest import OpenPage
from tests.ui.documents import FERRY, HARBOUR
from tests.ui.watching import Watch

# vLLM compiles on its first start.
STARTS_WITHIN_MS = 240_000
ANSWERS_WITHIN_MS = 120_000


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[str]:
    """The address of `rag-server serve`, as soon as it listens; its model is still loading then."""
    folder = tmp_path / "island"
    folder.mkdir()
    (folder / "ferry.md").write_text(FERRY)
    (folder / "harbour.txt").write_text(HARBOUR)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "rag_server.cli",
        "serve",
        "--port",
        str(port),
        "--index",
        str(folder),
        "--collection",
        "island",
    ]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, env={**os.environ, "RAG_DATA_DIR": str(tmp_path / "data")}) as process:
        try:
            transport = httpx.HTTPTransport(retries=20)
            with httpx.Client(transport=transport, trust_env=False) as client:
                assert client.get(f"{url}/health").status_code == 200
            yield url
        finally:
            process.terminate()


@pytest.mark.vllm
def test_a_real_model_answers_with_sources(serving: str, open_page: OpenPage, watch: Watch) -> None:
    """From a server that is still starting to an answer of vLLM that stands on passages of the documents."""
    watch.expect(r"status of 503")
    page = open_page(serving)
    expect(page.get_by_role("status").filter(has_text="Starting")).to_be_visible()
    expect(page.get_by_role("status").filter(has_text="Starting")).not_to_be_visible(timeout=STARTS_WITHIN_MS)
    expect(page.get_by_role("button", name="Collections: island")).to_be_visible()

    composer(page).fill("When does the ferry to Utsira leave?")
    composer(page).press("Enter")
    answer = answers(page).first
    expect(answer).to_have_attribute("aria-busy", "false", timeout=ANSWERS_WITHIN_MS)

    expect(text_of(answer)).to_contain_text("seven")
    expect(answer.get_by_role("button", name="Sources (2)")).to_be_visible()
    expect(mark(answer)).to_be_visible()
    mark(answer).click()
    expect(page.get_by_role("complementary", name="Document")).to_contain_text("Utsira")
