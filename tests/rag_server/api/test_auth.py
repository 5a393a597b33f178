"""Who is let in: API keys, the secret of this machine, and nobody else."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.routing import APIRoute

from rag_server.api.app import create_app
from rag_server.config import load_settings
from rag_server.protocols import Embedder
from rag_server.services import Address, Services, read_address, write_address
from tests.live import Live, live_server

# They tell nothing of what is stored.
OPEN = ("/health", "/ready", "/metrics", "/")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """A server with a key, a vector store `docs` and a file in it."""
    with live_server(tmp_path_factory.mktemp("auth"), embedder) as server:
        server.create("docs", file_ids=[server.upload("cats.md", "Cats sleep all day.")])
        server.index_waiting()
        server.make_key()
        yield server


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """A server that requires keys and has none."""
    with live_server(tmp_path_factory.mktemp("closed"), embedder, auth={"required": True}) as server:
        yield server


APP = create_app(object.__new__(Services))
# From the application itself, so that a new route cannot be forgotten.
ROUTES = [route for route in APP.routes if isinstance(route, APIRoute)]
CLOSED = sorted((method, route.path) for route in ROUTES for method in route.methods if route.path not in OPEN)


def ask(live: Live, method: str, path: str, authorization: str | None) -> httpx.Response:
    address = path.replace("{passage_id}", "1").replace("{model:path}", "rag/docs").replace("{vector_store_id}", "docs")
    headers = {} if authorization is None else {"authorization": authorization}
    return live.client.request(method, address.replace("{file_id}", "file-x"), headers=headers, json={})


def test_every_route_is_counted() -> None:
    """The list of routes that the tests below go through is the whole API."""
    assert ("POST", "/v1/chat/completions") in CLOSED
    assert ("GET", "/v1/passages/{passage_id}") in CLOSED
    assert ("POST", "/v1/vector_stores/{vector_store_id}/files/{file_id}/cancel") in CLOSED
    # The names and types of the API's own fields, and the files of the page.
    assert {route.path for route in APP.routes if route not in ROUTES} == {"/openapi.json", "/ui"}


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_no_route_answers_without_a_valid_key(live: Live, method: str, path: str) -> None:
    """Without a key, with a wrong, a malformed or a revoked one, every route is 401 and nothing else."""
    revoked, secret = live.services.store.keys.create("revoked")
    live.services.store.keys.revoke(revoked.id)

    for authorization in (None, "Bearer rag-wrong", "Bearer", f"Basic {secret}", f"Bearer {secret}", "Bearer r\u00e4g"):
        response = ask(live, method, path, None if authorization is None else authorization.encode("latin-1"))
        assert response.status_code == 401, authorization
        assert response.json()["error"]["code"] == "invalid_api_key"
        assert "docs" not in response.text


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_required_without_any_key_lets_nobody_in(closed: Live, method: str, path: str) -> None:
    """A server that requires keys is closed before the first one is made."""
    assert ask(closed, method, path, None).status_code == 401


@pytest.mark.parametrize("path", [*OPEN, "/ui/chat.css"])
def test_what_holds_no_document_is_open(live: Live, path: str) -> None:
    """Liveness, readiness, metrics and the empty page need no key, and name no vector store."""
    response = live.client.get(path)

    assert response.status_code == 200
    assert "docs" not in response.text or not path.startswith(("/ready", "/metrics", "/health"))


def test_valid_key_opens_every_route(live: Live) -> None:
    """With a key no route says that one is missing; the scheme's case does not matter."""
    secret = live.make_key()

    statuses = {ask(live, method, path, f"bearer {secret}").status_code for method, path in CLOSED if method != "DELETE"}

    assert 401 not in statuses
    assert 200 in statuses


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
