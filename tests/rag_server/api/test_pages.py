"""Health, metrics, models and errors over HTTP."""

import time
from collections.abc import Callable

import httpx

Index = Callable[..., None]


def test_health_ready_and_metrics(server: httpx.Client) -> None:
    """The server says that it is alive and ready, and counts its requests."""
    assert server.get("/health").json()["status"] == "ok"
    while server.get("/ready").json() != {"status": "ready", "missing": {}}:
        time.sleep(0.01)
    assert 'rag_requests_total{method="GET",route="/health",status="200"}' in server.get("/metrics").text


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
