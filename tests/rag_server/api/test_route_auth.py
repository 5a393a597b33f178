"""Every route that the application has is closed: without a valid key it is 401, unless it is on a short public list."""

import time
from collections.abc import Iterator

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from rag_server.protocols import Embedder
from tests.live import Live, live_server
from tests.routes import endpoints, unstarted_app

# All that may be read without a key: whether the server runs, its figures, its description, and the empty page.
PUBLIC = ("/", "/health", "/metrics", "/openapi.json", "/ready", "/ui", "/ui/{path:path}")

APP = unstarted_app()
FOUND = sorted(set(endpoints(APP.routes)))
CLOSED = [(method, path) for method, path in FOUND if path not in PUBLIC]


def address(path: str) -> str:
    """An address of the route; there need be nothing at it."""
    filled = path.replace("{passage_id}", "1").replace("{vector_store_id}", "docs").replace("{model:path}", "rag/docs")
    while "{" in filled:
        filled = filled[: filled.index("{")] + "x" + filled[filled.index("}") + 1 :]
    return filled


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """A server with a key and a vector store `docs` with a file in it."""
    with live_server(tmp_path_factory.mktemp("routes"), embedder) as server:
        server.create("docs", file_ids=[server.upload("cats.md", "Cats sleep all day.")])
        server.index_waiting()
        server.make_key()
        yield server


@pytest.fixture(scope="module")
def refused(live: Live) -> list[str | None]:
    """What may stand in `Authorization` and opens nothing."""
    keys = live.services.store.keys
    revoked, revoked_secret = keys.create("revoked")
    keys.revoke(revoked.id)
    expired_secret = keys.create("expired", expires_at=int(time.time()) - 1)[1]
    valid = live.make_key()
    bearers = ["rag-wrong", valid[:-1], f"{valid}x", f"{valid} {valid}", revoked_secret, expired_secret, "r\u00e4g"]
    return [None, "Bearer", valid, f"Basic {valid}", *(f"Bearer {secret}" for secret in bearers)]


def send(live: Live, method: str, path: str, authorization: str | None) -> httpx.Response:
    headers = {} if authorization is None else {"authorization": authorization.encode("latin-1")}
    return live.client.request(method, path, headers=headers, json={"model": "rag/docs"})


def test_discovery_sees_mounted_applications() -> None:
    """The list holds the routes of applications below others, and those of an application that tells none."""
    inner = Starlette(routes=[Route("/a/{x}", lambda request: None, methods=["POST"])])
    routes = [
        Mount("/inner", app=inner),
        Mount("/closed", app=lambda scope, receive, send: None),
        Route("/own", lambda _: None),
    ]

    found = set(endpoints(routes, "/top"))

    assert {("POST", "/top/inner/a/{x}"), ("POST", "/top/closed/{path:path}"), ("GET", "/top/own")} <= found


def test_discovery_sees_the_whole_api() -> None:
    """No route of the framework's own list is missing, and the public list names only what there is."""
    assert {route.path for route in APP.routes if isinstance(route, APIRoute)} <= {path for _, path in FOUND}
    assert {path for _, path in FOUND if path in PUBLIC} == set(PUBLIC)
    assert len(CLOSED) >= 20


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_route_is_closed_without_a_valid_key(live: Live, refused: list[str | None], method: str, path: str) -> None:
    """Whatever is sent instead of a valid key, the answer is 401 with what to send, and nothing of what is stored."""
    for authorization in refused:
        response = send(live, method, address(path), authorization)

        assert response.status_code == 401, authorization
        assert response.headers["www-authenticate"].startswith("Bearer")
        assert response.headers["x-request-id"]
        if method != "HEAD":
            assert response.json()["error"]["code"] == "invalid_api_key"
        assert "cats" not in response.text


@pytest.mark.parametrize("path", sorted({path for _, path in CLOSED}))
def test_no_spelling_of_a_path_is_open(live: Live, path: str) -> None:
    """Other methods, a slash at the end, doubled slashes, dots and other cases find no way around the key."""
    plain = address(path)
    spellings = {plain, f"{plain}/", f"/{plain}", f"/ui/..{plain}", f"/ui/%2e%2e{plain}", f"/health/..{plain}", plain.upper()}
    for spelling in spellings:
        for method in ("GET", "HEAD", "OPTIONS", "PUT", "PATCH"):
            # As it is: the client would take the dots out.
            request = live.client.build_request(method, live.url)
            request.url = request.url.copy_with(raw_path=spelling.encode())
            response = live.client.send(request)

            opened_file = spelling.startswith("/ui/") and response.status_code in (404, 405)
            assert response.status_code == 401 or opened_file, (method, spelling, response.status_code)


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_line_end_behind_a_path_opens_nothing(live: Live, method: str, path: str) -> None:
    """Routes are found with it too; scopes, places and limits, which go by the path, must not be passed by."""
    authorization = f"Bearer {live.make_key()}"
    request = live.client.build_request(method, live.url, headers={"authorization": authorization}, json={"model": "rag/docs"})
    request.url = request.url.copy_with(raw_path=f"{address(path)}%0A".encode())
    response = live.client.send(request)

    assert response.status_code == 400
    assert method == "HEAD" or response.json()["error"]["message"] == "an address holds no control characters"


def test_required_without_any_key_lets_nobody_in(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> None:
    """A server that requires keys is closed before the first one is made."""
    with live_server(tmp_path_factory.mktemp("closed"), embedder, auth={"required": True}) as closed:
        statuses = {(method, path): send(closed, method, address(path), None).status_code for method, path in CLOSED}

    assert set(statuses.values()) == {401}


def test_valid_key_opens_every_route(live: Live) -> None:
    """With a key no route says that one is missing; the scheme's case does not matter."""
    secret = live.make_key()

    statuses = {
        send(live, method, address(path), f"bearer {secret}").status_code for method, path in CLOSED if method != "DELETE"
    }

    assert statuses & {401, 403} == set()
    assert 200 in statuses
    assert not any(status >= 500 for status in statuses)


@pytest.mark.parametrize("path", ["/", "/ui/none.js"])
def test_page_is_open(live: Live, path: str) -> None:
    """It is asked for before anybody could have typed a key, also where it is not built or not there."""
    assert live.client.get(path).status_code in (200, 404, 503)


@pytest.mark.parametrize("path", ["/health", "/metrics", "/openapi.json", "/ready"])
def test_what_holds_no_document_is_open(live: Live, path: str) -> None:
    """Liveness, readiness, metrics and the description need no key, and name no file."""
    response = live.client.get(path)

    assert response.status_code == 200
    assert "cats" not in response.text
