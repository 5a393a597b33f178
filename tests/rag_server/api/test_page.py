"""The built page: its files, how long a browser keeps them, and what is said while there are none."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from rag_server.api.app import create_app
from rag_server.api.page import page_routes
from rag_server.config import Settings, load_settings
from rag_server.services import Services
from tests.conftest import served

SCRIPT = b"console.log('r\xc3\xa4ksm\xc3\xb6rg\xc3\xa5s')\n" * 100
INDEX = b'<!doctype html><script type="module" src="/ui/assets/app-1a2b.js"></script>'


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    """A page as it is built: an index, assets, one of them packed as well, and an icon."""
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_bytes(INDEX)
    (folder / "icon.svg").write_bytes(b"<svg/>")
    (folder / "assets" / "app-1a2b.js").write_bytes(SCRIPT)
    (folder / "assets" / "app-1a2b.js.gz").write_bytes(gzip.compress(SCRIPT))
    (folder / "assets" / "font-9f.woff2").write_bytes(b"wOF2")
    (tmp_path / "secret.txt").write_text("secret")
    return folder


@pytest.fixture
def client(dist: Path) -> Iterator[TestClient]:
    with TestClient(Starlette(routes=page_routes(dist))) as client:
        # Its own would be gzip, deflate.
        client.headers["accept-encoding"] = "identity"
        yield client


def test_index_is_asked_for_again_and_assets_are_kept(client: TestClient) -> None:
    """A browser always finds the newest page, and loads what has not changed no second time."""
    index, asset, icon = (client.get(path) for path in ("/", "/ui/assets/app-1a2b.js", "/ui/icon.svg"))

    assert (index.status_code, index.content) == (200, INDEX)
    assert index.headers["content-type"].startswith("text/html")
    assert index.headers["cache-control"] == icon.headers["cache-control"] == "no-cache"
    assert (asset.status_code, asset.content) == (200, SCRIPT)
    assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "javascript" in asset.headers["content-type"]
    assert icon.headers["content-type"] == "image/svg+xml"


def test_unchanged_file_is_not_sent_again(client: TestClient) -> None:
    """Whoever has it is told so; after a new build it is sent."""
    first = client.get("/")

    assert client.get("/", headers={"if-none-match": first.headers["etag"]}).status_code == 304
    assert client.get("/", headers={"if-none-match": '"other"'}).content == INDEX


@pytest.mark.parametrize(
    ("accepts", "packed"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5, *;q=0", True),
        ("gzip; q=1.0", True),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("xgzip, br", False),
        ("", False),
    ],
)
def test_packed_file_is_sent_to_who_takes_it(client: TestClient, accepts: str, packed: bool) -> None:
    """The client unpacks it to the same; caches are told to keep the two apart."""
    response = client.get("/ui/assets/app-1a2b.js", headers={"accept-encoding": accepts})

    assert response.content == SCRIPT
    assert (response.headers.get("content-encoding") == "gzip") == packed
    assert (int(response.headers["content-length"]) < len(SCRIPT)) == packed
    assert response.headers["vary"] == "accept-encoding"
    assert "javascript" in response.headers["content-type"]
    assert response.headers["cache-control"].endswith("immutable")


def test_file_without_a_packed_one_is_sent_as_it_is(client: TestClient) -> None:
    response = client.get("/ui/assets/font-9f.woff2", headers={"accept-encoding": "gzip"})

    assert response.content == b"wOF2"
    assert "content-encoding" not in response.headers


@pytest.mark.parametrize(
    "path", ["/ui/none.js", "/ui/assets", "/ui/", "/ui/../secret.txt", "/ui/%2e%2e/secret.txt", "/ui/assets/../../secret.txt"]
)
def test_what_is_not_of_the_page_is_not_there(client: TestClient, dist: Path, path: str) -> None:
    """Files that are missing, folders, and what lies outside, also through a link; and a browser does not keep that."""
    (dist / "link.txt").symlink_to(dist.parent / "secret.txt")

    for wanted in (path, "/ui/link.txt"):
        response = client.get(wanted)
        assert response.status_code == 404
        assert "secret" not in response.text
        assert "immutable" not in response.headers.get("cache-control", "")


@pytest.mark.parametrize("folder", ["none", "empty"])
def test_page_that_is_not_built_says_how(tmp_path: Path, folder: str) -> None:
    """In words and without a script; its files are missing, which is no failure of the server. Built, it is there at once."""
    (tmp_path / "empty").mkdir()
    dist = tmp_path / folder
    client = TestClient(Starlette(routes=page_routes(dist)))

    response = client.get("/")

    assert response.status_code == 503
    assert response.headers["content-type"].startswith("text/html")
    assert "The page is not built yet: run <code>make ui</code>, then reload." in response.text
    assert "<script" not in response.text
    assert client.get("/ui/assets/app.js").status_code == 404
    dist.mkdir(exist_ok=True)
    (dist / "index.html").write_bytes(INDEX)
    assert client.get("/").content == INDEX


def test_server_serves_the_page_under_its_policy(settings: Settings, dist: Path) -> None:
    """Every answer has the headers: nothing is loaded from elsewhere, nor by others from here; errors are OpenAI's objects."""
    with_engine = load_settings({}, data_dir=settings.data_dir, engine={"base_url": "http://127.0.0.1:9/v1"})
    with (
        served(create_app(Services(with_engine), ui_folder=dist)) as url,
        httpx.Client(base_url=url, trust_env=False) as client,
    ):
        answers = [client.get(path) for path in ("/", "/ui/assets/app-1a2b.js", "/ui/none.js", "/v1/models", "/none")]

    assert [answer.status_code for answer in answers] == [200, 200, 404, 200, 404]
    assert answers[1].content == SCRIPT
    assert answers[2].json()["error"]["code"] == "unknown_url"
    for answer in answers:
        assert answer.headers["content-security-policy"] == (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self' data:; "
            "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["permissions-policy"] == "camera=(), microphone=(), geolocation=()"
