"""The page, passages, health, metrics and errors over HTTP."""

import time
from collections.abc import Callable

import httpx

Index = Callable[..., None]
HOSTILE = "# <script>alert(1)</script>\n\nThe <img src=x onerror=alert(2)> sleeps & eats."


def test_health_ready_and_metrics(server: httpx.Client) -> None:
    """The server says that it is alive and ready, and counts its requests."""
    assert server.get("/health").json()["status"] == "ok"
    while server.get("/ready").json() != {"status": "ready", "missing": {}}:
        time.sleep(0.01)
    assert 'rag_requests_total{method="GET",route="/health",status="200"}' in server.get("/metrics").text


def test_page_loads_only_from_this_server(server: httpx.Client) -> None:
    """The chat page and its parts are served, under a policy that lets nothing else load or run."""
    page = server.get("/")

    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "http:" not in page.text
    assert "https:" not in page.text
    for path in ("/ui/chat.js", "/ui/chat.css"):
        assert path in page.text
        assert server.get(path).status_code == 200


def test_passage_is_json_for_programs(server: httpx.Client, index: Index) -> None:
    """A passage's address gives its text and place in the document."""
    text = "# Cats\n\nCats sleep for sixteen hours a day."
    index("docs", {"cats.md": text})
    found = server.post("/v1/vector_stores/docs/search", json={"query": "cats"}).json()["data"][0]

    passage = server.get(found["rag"]["url"]).json()

    assert passage["text"] == text[passage["start"] : passage["end"]]
    assert passage["filename"] == "cats.md"
    assert passage["url"] == found["rag"]["url"]


def test_passage_is_a_harmless_page_for_people(server: httpx.Client, index: Index) -> None:
    """A browser gets the document with the passage marked; markup in the document is shown, not run."""
    index("docs", {"hostile.md": HOSTILE})
    found = server.post("/v1/vector_stores/docs/search", json={"query": "sleeps"}).json()["data"][0]

    page = server.get(found["rag"]["url"], headers={"accept": "text/html"})

    assert page.headers["content-type"].startswith("text/html")
    assert '<mark id="passage">' in page.text
    assert "&lt;img src=x onerror=alert(2)&gt; sleeps &amp; eats." in page.text
    assert "<img" not in page.text
    assert "<script" not in page.text


def test_errors_have_openais_shape(server: httpx.Client) -> None:
    """Unknown routes, wrong methods and wrong types are error objects too."""
    for method, path, status in (
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/embeddings", 405),
        ("GET", "/v1/passages/999999", 404),
        ("GET", "/v1/passages/x", 400),
        ("GET", "/v1/models/none", 404),
        ("GET", "/v1/passages/99999999999999999999999", 400),
    ):
        response = server.request(method, path)

        assert response.status_code == status, path
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_model_is_found_by_its_name(server: httpx.Client, index: Index) -> None:
    """A collection is a model, its name may hold spaces."""
    index("my docs", {"cats.md": "Cats sleep."})

    assert server.get("/v1/models/rag/my docs").json()["id"] == "rag/my docs"
    assert server.get("/v1/models/scripted").json()["owned_by"] == "rag-server"
