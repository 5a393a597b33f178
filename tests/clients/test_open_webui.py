"""What Open WebUI sends and reads, by its documented contract: models, chat streams, files for retrieval, reranking."""

import json
from collections.abc import Iterator

import httpx
import pytest

QUESTION = [{"role": "user", "content": "Who is the harbour master?"}]


@pytest.fixture
def client(server) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {server.key}"}
    with httpx.Client(base_url=server.base_url, headers=headers, timeout=30, trust_env=False) as client:
        yield client


def events(response: httpx.Response) -> list[dict]:
    """Return the JSON of each `data:` line but the last, which is [DONE]."""
    lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def ask(client: httpx.Client, body: dict) -> list[dict]:
    with client.stream("POST", "/chat/completions", json={"stream": True, **body}) as response:
        response.read() if response.status_code != 200 else None
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        return events(response)


def test_the_models_come_within_ten_seconds(client: httpx.Client) -> None:
    models = client.get("/models", timeout=10).json()["data"]

    assert {"rag/handbook", "scripted"} <= {model["id"] for model in models}


def test_a_stream_carries_url_citations_of_passages_that_can_be_opened(client: httpx.Client) -> None:
    """They come in `delta.annotations`, with a title; the address gives programs the passage, and leads people to the page."""
    chunks = ask(client, {"model": "rag/handbook", "messages": QUESTION})

    annotations = [
        annotation
        for chunk in chunks
        for choice in chunk["choices"]
        for annotation in choice["delta"].get("annotations", [])
        if annotation["type"] == "url_citation"
    ]
    cited = annotations[0]["url_citation"]
    assert cited["title"] == "Harbour"
    passage = client.get(cited["url"]).json()
    assert "Ingrid Solberg" in passage["text"]
    page = client.get(cited["url"], headers={"accept": "text/html"})
    assert (page.status_code, page.headers["location"]) == (303, f"/#/passages/{passage['id']}")


def test_a_stream_has_its_usage_when_asked(client: httpx.Client) -> None:
    chunks = ask(client, {"model": "rag/handbook", "messages": QUESTION, "stream_options": {"include_usage": True}})

    assert [chunk["usage"]["total_tokens"] > 0 for chunk in chunks if chunk.get("usage")] == [True]


def test_tool_calls_in_a_stream_have_an_index(client: httpx.Client) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    messages = [{"role": "user", "content": 'call weather with {"place": "Utsira"}'}]

    chunks = ask(client, {"model": "scripted", "messages": messages, "tools": [tool]})

    calls = [call for chunk in chunks for choice in chunk["choices"] for call in choice["delta"].get("tool_calls", [])]
    assert {call["index"] for call in calls} == {0}
    assert json.loads("".join(call["function"]["arguments"] for call in calls)) == {"place": "Utsira"}


def test_source_events_come_only_when_asked_for(client: httpx.Client) -> None:
    """`rag.source_events` adds one event per passage, in the order of their numbers, as the page lists its sources."""
    body = {"model": "rag/handbook", "messages": QUESTION}
    without = ask(client, body)
    chunks = ask(client, {**body, "rag": {"source_events": True}})
    sources = [chunk["event"]["data"] for chunk in chunks if "event" in chunk]

    assert [chunk for chunk in without if "event" in chunk] == []
    assert {chunk["event"]["type"] for chunk in chunks if "event" in chunk} == {"source"}
    passages = next(chunk["rag"]["passages"] for chunk in chunks if "rag" in chunk)
    assert [source["document"] for source in sources] == [[passage["text"]] for passage in passages]
    shown = {(source["metadata"][0]["source"], source["metadata"][0]["source_url"]) for source in sources}
    assert shown == {(str(passage["id"]), passage["url"]) for passage in passages}
    assert "Harbour" in {source["source"]["name"] for source in sources}


def test_its_retrieval_embeds_and_reranks(client: httpx.Client) -> None:
    """With this server as its embedding engine and external reranker."""
    embedded = client.post("/embeddings", json={"input": ["the ferry", "the harbour"], "model": "default"}).json()["data"]
    assert [len(item["embedding"]) for item in embedded] == [384, 384]

    body = {"model": "none", "query": "When?", "documents": ["one", "two"], "top_n": 2}
    results = client.post("/rerank", json=body).json()["results"]
    assert [(result["index"], result["relevance_score"]) for result in results] == [(0, 1.0), (1, 0.5)]


def test_an_error_has_a_message_that_the_page_can_show(client: httpx.Client) -> None:
    response = client.post("/chat/completions", json={"model": "rag/nowhere", "messages": QUESTION, "stream": True})

    assert response.status_code == 404
    assert "rag/nowhere" in response.json()["error"]["message"]
