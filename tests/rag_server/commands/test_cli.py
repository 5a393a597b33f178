"""The command line as people call it: what it prints, where, and with which exit status."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from rag_server import cli
from rag_server.config import Settings
from rag_server.services import Address, write_address

Index = Callable[..., None]
DOCS = {"cats.md": "# Cats\n\nCats sleep for sixteen hours a day.", "boats.md": "# Boats\n\nA ketch has two masts."}


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch, command_line: Callable[..., tuple]) -> Callable[..., tuple]:
    """Run the command line on the data directory of the test."""
    monkeypatch.setenv("RAG_DATA_DIR", str(settings.data_dir))
    return command_line


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    for name, text in DOCS.items():
        (folder / name).write_text(text)
    return folder


def test_index_prints_what_it_did(run: Callable, files: Path) -> None:
    """A first run counts what was indexed, a second one what was unchanged."""
    first = run("index", str(files), "--collection", "docs")
    second = run("index", str(files), "--collection", "docs")

    assert first == (0, "docs: 2 files indexed (2 documents, 2 new chunks), 0 unchanged, 0 with errors\n", "")
    assert second == (0, "docs: 0 files indexed (0 documents, 0 new chunks), 2 unchanged, 0 with errors\n", "")


def test_unreadable_file_is_one_line_and_status_1(run: Callable, files: Path) -> None:
    """A file that cannot be read is named in one line with the reason; the others are indexed; --json lists both."""
    (files / "picture.png").write_bytes(b"\x89PNG\r\n")

    status, out, _ = run("index", str(files), "--collection", "docs", "--json")
    report = json.loads(out)
    plain = run("index", str(files), "--collection", "docs")

    assert status == 1
    assert sorted(Path(path).name for path in report["indexed"]) == ["boats.md", "cats.md"]
    assert [Path(path).name for path in report["failed"]] == ["picture.png"]
    assert plain[0] == 1
    assert len(plain[2].splitlines()) == 1
    assert "picture.png" in plain[2]


@pytest.mark.parametrize(
    ("arguments", "environment", "sign"),
    [
        (["index", "{folder}", "--collection", "docs"], {}, "no file to index"),
        (["search", "cats", "--collection", "none"], {}, "rag-server index"),
        (["ask", "cats", "--collection", "none"], {"RAG_ENGINE__BASE_URL": "{engine}"}, "rag-server index"),
        (["doctor"], {"RAG_NONSENSE": "1"}, "RAG_NONSENSE"),
        (["doctor"], {"RAG_PORT": "many"}, "RAG_PORT"),
        (["serve", "--port", "0"], {"RAG_ENGINE__MODEL": "{folder}"}, "RAG_ENGINE__MODEL"),
        (["index", "{file}", "--collection", "docs"], {"RAG_EMBEDDER__MODEL": "{folder}"}, "RAG_EMBEDDER__MODEL"),
        (["index", "{file}", "--collection", "a/b"], {}, "cannot name a collection"),
        (["serve", "--port", "{busy}"], {}, "--port"),
    ],
)
def test_mistake_is_one_line_that_names_the_remedy(
    tmp_path: Path, scripted_engine: Callable, arguments: list[str], environment: dict[str, str], sign: str
) -> None:
    """Whatever a person gets wrong is told in one line on standard error, with status 1 and no traceback."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("Cats sleep.")
    with socket.socket() as busy, scripted_engine() as engine:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        values = {
            "folder": tmp_path / "empty",
            "file": tmp_path / "a.txt",
            "busy": busy.getsockname()[1],
            "engine": engine,
        }
        process = subprocess.run(
            [sys.executable, "-m", "rag_server.cli", *(argument.format(**values) for argument in arguments)],
            env={
                **os.environ,
                "RAG_DATA_DIR": str(tmp_path / "data"),
                **{name: value.format(**values) for name, value in environment.items()},
            },
            capture_output=True,
            text=True,
            timeout=120,
        )

    errors = [line for line in process.stderr.splitlines() if line.startswith("rag-server:")]
    assert process.returncode == 1
    assert len(errors) == 1
    assert sign in errors[0]
    assert "Traceback" not in process.stderr


def test_search_and_ask_use_the_running_server(run: Callable, index: Index, settings: Settings, server: httpx.Client) -> None:
    """Both commands find the server of their data directory; ask streams the answer and shows the checked quote."""
    index("docs", DOCS)
    write_address(settings.data_dir, Address(str(server.base_url), "none"))

    search = run("search", "masts", "--collection", "docs")
    found = json.loads(run("search", "masts", "--collection", "docs", "-k", "1", "--json")[1])
    ask = run("ask", "How long do cats sleep?", "--collection", "docs")
    asked = json.loads(run("ask", "How long do cats sleep?", "--collection", "docs", "--json")[1])

    assert "1. Boats" in search[1]
    assert [result["filename"] for result in found] == ["boats.md"]
    assert ask[0] == 0
    assert ask[1].startswith("Cats sleep for sixteen hours a day. [")
    assert "cats.md, Cats, characters" in ask[1]
    assert "Cats sleep for sixteen hours a day." in ask[1].split("cats.md")[1]
    assert asked["citations"][0]["verified"]


def test_search_starts_a_server_for_the_moment(run: Callable, index: Index) -> None:
    """Without a running server a search still answers, and no engine is started for it."""
    index("docs", DOCS)

    status, out, _ = run("search", "masts", "--collection", "docs")

    assert status == 0
    assert "boats.md" in out


def test_doctor_tells_what_is_there(
    run: Callable, index: Index, scripted_engine: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Doctor names the collections and the engine, and fails with the reason when one is missing."""
    index("docs", DOCS)
    with scripted_engine() as url:
        monkeypatch.setenv("RAG_ENGINE__BASE_URL", url)
        well = run("doctor", "--json")
    monkeypatch.setenv("RAG_ENGINE__BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("RAG_RERANK__KIND", "cross_encoder")
    monkeypatch.setenv("RAG_RERANK__MODEL", "nowhere")
    ill = run("doctor", "--json")

    findings = {finding["name"]: finding for finding in json.loads(well[1])["findings"]}
    missing = [finding for finding in json.loads(ill[1])["findings"] if not finding["ok"]]
    assert well[0] == 0
    assert "docs (2 documents, all-MiniLM-L6-v2)" in findings["store"]["detail"]
    assert "docs: flat, 2 vectors of 384 dimensions" in findings["vector index"]["detail"]
    assert "scripted" in findings["engine"]["detail"]
    assert ill[0] == 1
    assert findings["reranker"]["detail"] == "none"
    assert [finding["name"] for finding in missing] == ["engine", "reranker"]


def test_help_lists_the_commands() -> None:
    """Help shows what people use and not the stand-in engine for tests."""
    help_text = CliRunner().invoke(cli.app, ["--help"]).output

    assert all(command in help_text for command in ("serve", "index", "search", "ask", "doctor"))
    assert "scripted" not in help_text
