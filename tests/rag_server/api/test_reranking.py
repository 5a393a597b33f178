"""Reranking in searches and answers over HTTP."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx
import pytest

from rag_server.config import Settings
from tests.conftest import running_server

Engines = Callable[..., AbstractContextManager[str]]
Index = Callable[..., None]
DOCS = {
    "cats.md": "# Cats\n\nCats sleep for sixteen hours a day.",
    "boats.md": "# Boats\n\nA ketch is a sailing boat with two masts.",
}


def search(client: httpx.Client, rerank: str | None) -> httpx.Response:
    body = {"query": "boat with two masts", "rag": {"rerank": rerank}}
    return client.post("/v1/vector_stores/docs/search", json=body)


@pytest.mark.parametrize("kind", ["full_ranking", "sliding_window"])
def test_search_is_in_the_reranker_s_order(settings: Settings, index: Index, scripted_engine: Engines, kind: str) -> None:
    """The model turns the two candidates round; scores fall in its order, the report says what it took."""
    index("docs", DOCS)
    with scripted_engine(answer="[2] > [1]") as url, running_server(settings, engine=url) as client:
        plain = search(client, None).json()
        ranked = search(client, kind).json()

    assert [result["filename"] for result in plain["data"]] == ["boats.md", "cats.md"]
    assert [{**result, "score": None} for result in ranked["data"]] == [
        {**result, "score": None} for result in plain["data"][::-1]
    ]
    assert [result["score"] for result in ranked["data"]] == [1.0, 0.5]
    assert plain["rag"]["rerank"] == {**dict.fromkeys(plain["rag"]["rerank"], 0), "kind": "none", "fallback": None}
    report = ranked["rag"]["rerank"]
    assert (report["kind"], report["fallback"], report["calls"], report["well_formed"]) == (kind, None, 1, 1)
    assert (report["prompt_tokens"] > 0, report["output_tokens"]) == (True, 3)


def test_configured_reranker_is_used_and_answers_say_so(settings: Settings, index: Index, scripted_engine: Engines) -> None:
    """RAG_RERANK__KIND decides where a request says nothing; the answer carries the report, whole or streamed."""
    index("docs", DOCS)
    configured = settings.model_copy(update={"rerank": settings.rerank.model_copy(update={"kind": "full_ranking"})})
    body = {"model": "rag/docs", "messages": [{"role": "user", "content": "two masts"}], "rag": {"reorder": "none"}}
    with scripted_engine(answer="[2] > [1]") as url, running_server(configured, engine=url) as client:
        answer = client.post("/v1/chat/completions", json=body).json()
        streamed = client.post("/v1/chat/completions", json={**body, "stream": True}).text
        metrics = client.get("/metrics").text

    assert [passage["filename"] for passage in answer["rag"]["passages"]] == ["cats.md", "boats.md"]
    assert [passage["rank"] for passage in answer["rag"]["passages"]] == [1, 2]
    assert answer["rag"]["rerank"]["kind"] == "full_ranking"
    assert '"rerank":{"kind":"full_ranking","calls":1' in streamed
    assert 'rag_rerank_total{kind="full_ranking",outcome="ranked"}' in metrics
    assert 'rag_rerank_counts_total{kind="full_ranking",what="output_tokens"}' in metrics


def test_fallback_is_said_in_the_answer(settings: Settings, index: Index, scripted_engine: Engines) -> None:
    """A ranker that is too slow leaves the search's order; the question is answered, and the reason stands beside it."""
    index("docs", DOCS)
    hurried = settings.model_copy(update={"rerank": settings.rerank.model_copy(update={"deadline_s": 0.2})})
    body = {"model": "rag/docs", "messages": [{"role": "user", "content": "two masts"}], "rag": {"rerank": "full_ranking"}}
    with scripted_engine(time_to_first_token_s=0.5) as url, running_server(hurried, engine=url) as client:
        answer = client.post("/v1/chat/completions", json=body).json()

    assert answer["rag"]["passages"][0]["filename"] == "boats.md"
    assert "did not answer within 0.2 s" in answer["rag"]["rerank"]["fallback"]
    assert "two masts" in answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize("kind", ["cross_encoder", "listwise_scorer"])
def test_reranker_that_is_not_set_up_is_refused(settings: Settings, index: Index, server: httpx.Client, kind: str) -> None:
    """Nothing is ranked otherwise than asked: the answer is 400 and names the settings."""
    del settings
    index("docs", DOCS)

    refused = search(server, kind)

    assert refused.status_code == 400
    assert f"RAG_RERANK__KIND={kind}" in refused.json()["error"]["message"]


def test_filters_beside_the_options_are_refused_in_a_search(index: Index, server: httpx.Client) -> None:
    """A filter that would be passed over could show what it was meant to hide."""
    index("docs", DOCS)
    body = {"query": "masts", "rag": {"filters": {"type": "eq", "key": "year", "value": 1999}}}

    refused = server.post("/v1/vector_stores/docs/search", json=body)

    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "rag.filters")
