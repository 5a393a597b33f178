"""Who is let in: API keys, the secret of this machine, and nobody else."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rag_server.config import load_settings
from rag_server.protocols import Embedder
from rag_server.services import Address, read_address, write_address
from tests.live import Live, live_server


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """A server with a key, a vector store `docs` and a file in it."""
    with live_server(tmp_path_factory.mktemp("auth"), embedder) as server:
        server.create("docs", file_ids=[server.upload("cats.md", "Cats sleep all day.")])
        server.index_waiting()
        server.make_key()
        yield server


def test_server_is_open_until_the_first_key_and_after_the_last(tmp_path: Path, embedder: Embedder) -> None:
    """Without a key everyone may ask; a key closes the server at once, revoking it opens it again."""
    with live_server(tmp_path / "data", embedder) as live:
        before = live.client.get("/v1/models").status_code
        key, secret = live.services.store.keys.create("first")
        without = live.client.get("/v1/models").status_code
        with_key = live.as_key(secret).get("/v1/models").status_code
        live.services.store.keys.revoke(key.id)
        after = live.client.get("/v1/models").status_code

    assert (before, without, with_key, after) == (200, 401, 200, 200)


def test_auth_not_required_keeps_an_open_server_open(tmp_path: Path, embedder: Embedder) -> None:
    """RAG_AUTH__REQUIRED=false lets everyone in though there are keys."""
    with live_server(tmp_path / "data", embedder, auth={"required": False}) as live:
        live.make_key()

        assert live.client.get("/v1/models").status_code == 200


@pytest.mark.parametrize(("method", "body"), [("POST", {"name": "mine"}), ("DELETE", None)])
def test_limited_key_neither_renames_nor_deletes_a_vector_store(live: Live, method: str, body: object) -> None:
    """A key with principals cannot change what others see; the vector store stays as it was."""
    limited = live.as_key(live.make_key(principals=["red"]))

    response = limited.request(method, "/v1/vector_stores/docs", json=body)

    assert response.status_code == 403
    assert response.json()["error"]["code"] == "forbidden"
    assert limited.get("/v1/vector_stores/docs").json()["name"] == "docs"


def test_address_file_is_for_its_owner_only(tmp_path: Path) -> None:
    """What lets a command in is readable by the owner of the data directory alone, even over an older file."""
    (tmp_path / "server.json").touch(mode=0o644)

    write_address(tmp_path, Address("http://127.0.0.1:1", "secret"))

    assert stat.S_IMODE((tmp_path / "server.json").stat().st_mode) == 0o600
    assert read_address(tmp_path) == Address("http://127.0.0.1:1", "secret")
    assert [path.name for path in tmp_path.iterdir()] == ["server.json"]


def test_command_of_this_machine_needs_no_key(live: Live) -> None:
    """`rag-server search` finds the running server and is let in by the secret of its address file."""
    write_address(live.settings.data_dir, Address(live.url, live.services.local_secret))
    command = [sys.executable, "-m", "rag_server.cli", "search", "sleep", "--collection", "docs", "--json"]
    environment = {**os.environ, "RAG_DATA_DIR": str(live.settings.data_dir)}

    allowed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    write_address(live.settings.data_dir, Address(live.url, "wrong"))
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    assert [result["filename"] for result in json.loads(allowed.stdout)] == ["cats.md"]
    assert refused.returncode == 1
    assert "API key" in refused.stderr


def test_required_is_read_from_the_environment() -> None:
    """The variable that the documentation names closes the server."""
    assert load_settings({"RAG_AUTH__REQUIRED": "true"}).auth.required is True
    assert load_settings({}).auth.required is None
