"""A file by its URL, over the API: what may not be fetched is refused, what may is a file like any other, and charged."""

import ipaddress
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpcore
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from indexers.loaders import fetch as fetching
from rag_server.api.fetching import MAX_FETCHES
from rag_server.protocols import Embedder
from tests.conftest import served
from tests.live import Live, live_server

PUBLIC = "93.184.216.34"
TEXT = "The tide comes at noon."


class Held:
    """Documents that come only once they are let go."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.let_go = threading.Event()

    def answer(self, request: Request) -> PlainTextResponse:
        self.asked.release()
        self.let_go.wait()
        return PlainTextResponse(TEXT)


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, held: Held) -> Iterator[None]:
    """docs.example, a real HTTP server; connections to its public address lead there."""

    async def resolve(host: str, port: int) -> list[str]:
        if host == "docs.example":
            return [PUBLIC]
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            raise socket.gaierror(host) from None

    pages = {"/tide.txt": TEXT, "/long.txt": TEXT * 500}
    routes = [Route(path, lambda request: PlainTextResponse(pages[request.url.path])) for path in pages]
    routes.append(Route("/held.txt", held.answer))
    with served(Starlette(routes=routes)) as url:
        there = int(url.rpartition(":")[2])

        class Network(httpcore.AnyIOBackend):
            async def connect_tcp(self, host: str, port: int, *rest: object, **named: object):
                assert host == PUBLIC
                return await super().connect_tcp("127.0.0.1", there, *rest, **named)

        monkeypatch.setattr(fetching.fetch, "__kwdefaults__", {"resolve": resolve, "network": Network()})
        yield


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    with live_server(tmp_path_factory.mktemp("fetching"), embedder) as server:
        yield server


def send(client: httpx.Client, **fields: str) -> httpx.Response:
    """Send the form, as multipart like a form with a file."""
    return client.post("/v1/files", files={name: (None, value) for name, value in fields.items()})


def test_a_url_becomes_a_file_that_can_be_indexed(live: Live, site: None) -> None:
    client = live.as_key(live.make_key())
    file = send(client, url="http://docs.example/tide.txt", purpose="assistants").json()

    assert (file["filename"], file["bytes"], file["purpose"]) == ("tide.txt", len(TEXT), "assistants")
    assert client.get(f"/v1/files/{file['id']}/content").text == TEXT
    store = live.create("tides", client)
    live.attach(store, file["id"], client)
    live.index_waiting()
    assert live.found(store, "tide", client) == ["tide.txt"]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://169.254.169.254/latest/",
        "file:///etc/passwd",
        "http://inner/",
        "http://xn--/",
        "nonsense",
        "",
    ],
)
def test_what_is_not_on_the_internet_is_a_400_and_no_file(live: Live, site: None, url: str) -> None:
    client = live.as_key(live.make_key())
    before = len(client.get("/v1/files").json()["data"])

    response = send(client, url=url, purpose="assistants")

    assert response.status_code == 400
    assert (response.json()["error"]["code"], response.json()["error"]["param"]) == ("url_not_fetched", "url")
    assert len(client.get("/v1/files").json()["data"]) == before


def test_the_other_fields_are_read_first(live: Live, site: None) -> None:
    """A faulty form fetches nothing."""
    response = send(live.as_key(live.make_key()), url="http://127.0.0.1/", purpose="nonsense")

    assert response.json()["error"]["param"] == "purpose"


def test_so_many_documents_are_fetched_at_once_and_the_next_one_is_refused(live: Live, site: None, held: Held) -> None:
    """Files that are sent still find a place, and so does the next document once one has come."""
    client = live.as_key(live.make_key())

    def fetch_held(_: int) -> int:
        return send(client, url="http://docs.example/held.txt", purpose="assistants").status_code

    with ThreadPoolExecutor(max_workers=MAX_FETCHES) as threads:
        held_up = threads.map(fetch_held, range(MAX_FETCHES))
        try:
            for _ in range(MAX_FETCHES):
                assert held.asked.acquire(timeout=30)
            refused = send(client, url="http://docs.example/tide.txt", purpose="assistants")
            sent = client.post("/v1/files", files={"file": ("tide.txt", TEXT)}, data={"purpose": "assistants"})
        finally:
            held.let_go.set()
        statuses = list(held_up)

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
    assert refused.headers["retry-after"]
    assert sent.status_code == 200
    assert statuses == [200] * MAX_FETCHES
    assert send(client, url="http://docs.example/tide.txt", purpose="assistants").status_code == 200


def test_what_is_fetched_is_charged_to_the_key(live: Live, site: None) -> None:
    """Five forms are far below the quota, and so is one document; two documents are above it."""
    secret = live.services.store.keys.create("small", limits={"upload_bytes_per_day": 20_000})[1]
    client = live.as_key(secret)

    statuses = [send(client, url="http://docs.example/long.txt", purpose="assistants").status_code for _ in range(5)]

    assert statuses[0] == 200
    assert statuses[-1] == 429
