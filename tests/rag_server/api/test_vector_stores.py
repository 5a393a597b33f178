"""Vector stores and their search over HTTP."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx
import pytest

from rag_server.config import Settings
from tests.conftest import running_server

Index = Callable[..., None]
DOCS = {
    "cats.md": "# Cats\n\nCats sleep for sixteen hours a day.",
    "boats.md": "# Boats\n\nA ketch is a sailing boat with two masts.",
}
ROWS = '{"_id": "d1", "title": "Tea", "text": "Green tea is not fermented.", "year": 1999}\n'


def test_search_answers_in_openais_shape(server: httpx.Client, index: Index) -> None:
    """A search returns a page of results, best first, with text, score, file and attributes."""
    index("docs", {**DOCS, "rows.jsonl": ROWS})

    page = server.post("/v1/vector_stores/docs/search", json={"query": "fermented tea", "max_num_results": 2}).json()

    first, second = page["data"]
    assert page["object"] == "vector_store.search_results.page"
    assert page["search_query"] == ["fermented tea"]
    assert (page["has_more"], page["next_page"]) == (False, None)
    assert first["content"] == [{"type": "text", "text": "Green tea is not fermented."}]
    assert first["attributes"] == {"year": 1999, "document_id": "d1"}
    assert first["filename"] == "rows.jsonl"
    assert first["score"] > second["score"]


@pytest.mark.parametrize("kind", ["dense", "lexical", "hybrid"])
def test_every_kind_of_retrieval_finds_the_passage(server: httpx.Client, index: Index, kind: str) -> None:
    """Dense, lexical and hybrid search are chosen per request."""
    index("docs", DOCS)

    page = server.post("/v1/vector_stores/docs/search", json={"query": "boat with masts", "rag": {"retrieve": kind}}).json()

    assert page["data"][0]["filename"] == "boats.md"
    assert len(page["data"]) == (1 if kind == "lexical" else 2)


def test_search_sees_what_another_process_indexed(server: httpx.Client, index: Index) -> None:
    """A document that was indexed, changed or removed behind the server's back is searched as it is now."""
    query = {"query": "ketch", "rag": {"retrieve": "lexical"}}

    index("docs", DOCS)
    before = server.post("/v1/vector_stores/docs/search", json=query).json()["data"]
    index("docs", {"boats.md": "# Boats\n\nA yawl is another boat."})
    after = server.post("/v1/vector_stores/docs/search", json=query).json()["data"]
    changed = server.post("/v1/vector_stores/docs/search", json={**query, "query": "yawl"}).json()["data"]

    assert [result["filename"] for result in before] == ["boats.md"]
    assert after == []
    assert [result["filename"] for result in changed] == ["boats.md"]


def test_list_and_get_name_the_collections(server: httpx.Client, index: Index) -> None:
    """Collections are vector stores, found by id or by name, with their file counts."""
    index("docs", DOCS)
    index("tea", {"rows.jsonl": ROWS})

    page = server.get("/v1/vector_stores").json()

    assert [store["name"] for store in page["data"]] == ["tea", "docs"]
    assert page["data"][1]["file_counts"] == {"in_progress": 0, "completed": 2, "failed": 0, "cancelled": 0, "total": 2}
    assert server.get(f"/v1/vector_stores/{page['data'][1]['id']}").json() == page["data"][1]
    assert server.get("/v1/vector_stores/docs").json() == page["data"][1]


@pytest.mark.parametrize(
    ("request_body", "status", "param"),
    [
        ({}, 400, "query"),
        ({"query": ""}, 400, "query.0"),
        ({"query": []}, 400, "query"),
        ({"query": ["x"] * 17}, 400, "query"),
        ({"query": ["x", 7]}, 400, "query.1"),
        ({"query": "x", "filter": {}}, 400, "filter"),
        ({"query": "x", "max_num_results": 51}, 400, "max_num_results"),
        ({"query": "x", "max_num_results": 0}, 400, "max_num_results"),
        ({"query": "x", "filters": {"type": "eq", "key": "a", "value": 1}}, 400, "filters"),
        ({"query": "x", "rewrite_query": "true"}, 400, "rewrite_query"),
        ({"query": "x", "ranking_options": {"ranker": "best"}}, 400, "ranking_options.ranker"),
        ({"query": "x", "ranking_options": {"score_threshold": 1.1}}, 400, "ranking_options.score_threshold"),
        ({"query": "x", "ranking_options": {"score_threshold": -0.1}}, 400, "ranking_options.score_threshold"),
        ({"query": "x", "rag": {"retrieve": "magic"}}, 400, "rag.retrieve"),
    ],
)
def test_faulty_search_names_the_field(
    server: httpx.Client, index: Index, request_body: dict, status: int, param: str | None
) -> None:
    """A faulty search is refused, and so is a field that nobody knows, rather than ignored."""
    index("docs", DOCS)

    response = server.post("/v1/vector_stores/docs/search", json=request_body)

    assert response.status_code == status
    if param is not None:
        assert response.json()["error"]["param"] == param


def test_unknown_collection_is_404_and_names_the_remedy(server: httpx.Client) -> None:
    """The message of an unknown collection says how to make it."""
    response = server.post("/v1/vector_stores/none/search", json={"query": "x"})

    assert response.status_code == 404
    assert "rag-server index" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "query",
    [
        '"',
        "a:b AND (",
        "+-*~^",
        "\u0000",
        "🐈 " * 500,
        "the " * 5000,
        "\ud800".encode("utf-16", "surrogatepass").decode("utf-16", "replace"),
    ],
)
def test_any_text_is_a_valid_query(server: httpx.Client, index: Index, query: str) -> None:
    """Search syntax, control characters and long texts are just text."""
    index("docs", DOCS)

    assert server.post("/v1/vector_stores/docs/search", json={"query": query}).status_code == 200


def test_rewritten_query_is_what_is_searched_and_shown(
    settings: Settings, scripted_engine: Callable[..., AbstractContextManager[str]], index: Index
) -> None:
    """The engine's wording finds what the original does not, and both are told; without being asked nothing is rewritten."""
    index("docs", DOCS)
    body = {"query": "please tell me of the ketch, which cats may not know", "rag": {"retrieve": "lexical"}}
    with scripted_engine(answer="Search query: the ketch") as engine, running_server(settings, engine=engine) as client:
        rewritten = client.post("/v1/vector_stores/docs/search", json={**body, "rewrite_query": True}).json()
        several = client.post(
            "/v1/vector_stores/docs/search", json={"query": ["the big ketch", "a ketch"], "rewrite_query": True}
        ).json()
        original = client.post("/v1/vector_stores/docs/search", json=body).json()

    assert rewritten["search_query"] == ["the ketch"]
    assert [result["filename"] for result in rewritten["data"]] == ["boats.md"]
    assert rewritten["rag"]["rewrite"] == {"queries": [body["query"]], "fallback": None}
    assert "rewrite" in rewritten["rag"]["timings_ms"]
    assert several["search_query"] == ["the ketch"] * 2
    assert original["search_query"] == [body["query"]]
    assert {result["filename"] for result in original["data"]} == {"boats.md", "cats.md"}
    assert "rewrite" not in original["rag"]


def test_query_is_searched_as_it_is_when_the_engine_is_down(settings: Settings, index: Index) -> None:
    """Nobody to rewrite it is no reason not to search, and the answer says why it was not rewritten."""
    index("docs", DOCS)
    body = {"query": "ketch", "rewrite_query": True}

    with running_server(settings, engine="http://127.0.0.1:9/v1") as client:
        response = client.post("/v1/vector_stores/docs/search", json=body)

    page = response.json()
    assert (response.status_code, page["search_query"]) == (200, ["ketch"])
    assert page["data"][0]["filename"] == "boats.md"
    assert page["rag"]["rewrite"]["queries"] == ["ketch"]
    assert page["rag"]["rewrite"]["fallback"]
