"""Chat completions over HTTP, with the official client where a client would be used."""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx
import openai
import pytest

from rag_server.config import Settings
from tests.conftest import running_server

DOCS = {
    "cats.md": "# Cats\n\nCats sleep for sixteen hours a day. They hunt at dusk.",
    "boats.md": "# Boats\n\nA ketch is a sailing boat with two masts. A sloop has one mast.",
}
QUESTION = "How many hours a day do cats sleep?"
Index = Callable[..., None]
StartEngine = Callable[..., AbstractContextManager[str]]


def body(**fields: object) -> dict[str, object]:
    return {"model": "rag/docs", "messages": [{"role": "user", "content": QUESTION}], **fields}


def events(response: httpx.Response) -> list[dict]:
    """The JSON objects of an event stream that must end with [DONE]."""
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]

    assert lines[-1] == "[DONE]"

    return [json.loads(line) for line in lines[:-1]]


def test_answer_carries_passages_and_checked_citations(server: httpx.Client, index: Index) -> None:
    """An answer's citation names a passage, and its quote stands at its offsets in the document."""
    index("docs", DOCS)

    answer = server.post("/v1/chat/completions", json=body()).json()

    text = answer["choices"][0]["message"]["content"]
    passages = answer["rag"]["passages"]
    (citation,) = answer["rag"]["citations"]
    cited = next(passage for passage in passages if passage["id"] == citation["passage_id"])
    number = passages.index(cited) + 1
    assert text == f"Cats sleep for sixteen hours a day. [{number}]"
    assert (cited["filename"], cited["document_id"], cited["title"]) == ("cats.md", "cats.md", "Cats")
    assert citation["verified"]
    assert citation["quote"] == DOCS["cats.md"][citation["start"] : citation["end"]]
    assert "Cats sleep for sixteen hours a day." in citation["quote"]
    assert text[citation["answer_start"] : citation["answer_end"]] == f"[{number}]"
    assert set(answer["rag"]["timings_ms"]) == {"retrieve", "rerank", "prompt", "generate", "cite"}
    assert answer["model"] == "rag/docs"


def test_citations_name_their_passages_between_separators(
    server: httpx.Client, settings: Settings, scripted_engine: StartEngine, index: Index
) -> None:
    """With separators around the passages the prompt is longer, and the answer and what it cites are the same."""
    index("docs", DOCS)
    plain = server.post("/v1/chat/completions", json=body()).json()
    prompt = settings.prompt.model_copy(update={"passage_separator": " # #"})
    with (
        scripted_engine() as engine,
        running_server(settings.model_copy(update={"prompt": prompt}), engine=engine) as client,
    ):
        separated = client.post("/v1/chat/completions", json=body()).json()

    # The engine's tokens are words: four for each passage.
    assert separated["usage"]["prompt_tokens"] == plain["usage"]["prompt_tokens"] + 2 * 4
    assert separated["choices"][0]["message"]["content"] == plain["choices"][0]["message"]["content"]
    assert separated["rag"]["citations"] == plain["rag"]["citations"]
    assert separated["rag"]["citations"][0]["verified"]


def test_annotations_are_openai_citations(server: httpx.Client, index: Index) -> None:
    """Each citation is one url_citation whose address answers, and one file_citation."""
    index("docs", DOCS)

    answer = server.post("/v1/chat/completions", json=body()).json()

    url, file = answer["choices"][0]["message"]["annotations"]
    (citation,) = answer["rag"]["citations"]
    assert url["type"] == "url_citation"
    assert (url["url_citation"]["start_index"], url["url_citation"]["end_index"]) == (
        citation["answer_start"],
        citation["answer_end"],
    )
    assert url["url_citation"]["title"] == "Cats"
    assert server.get(url["url_citation"]["url"]).json()["id"] == citation["passage_id"]
    assert file["type"] == "file_citation"
    assert file["file_citation"]["filename"] == "cats.md"
    assert answer["rag"]["passages"][file["file_citation"]["index"]]["filename"] == "cats.md"


def test_stream_begins_with_passages_and_ends_with_citations(server: httpx.Client, index: Index) -> None:
    """The first chunk holds the passages, the last one before [DONE] the annotations and citations."""
    index("docs", DOCS)

    chunks = events(server.post("/v1/chat/completions", json=body(stream=True)))

    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    assert {passage["filename"] for passage in chunks[0]["rag"]["passages"]} == {"cats.md", "boats.md"}
    assert text.startswith("Cats sleep for sixteen hours a day. [")
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert len(chunks[-1]["choices"][0]["delta"]["annotations"]) == 2
    assert chunks[-1]["rag"]["citations"][0]["verified"]
    assert {chunk["model"] for chunk in chunks} == {"rag/docs"}


def test_usage_chunk_stays_last_and_carries_the_citations(server: httpx.Client, index: Index) -> None:
    """With include_usage the last chunk has no choices, as OpenAI says, and holds usage and citations."""
    index("docs", DOCS)

    request = body(stream=True, n=2, stream_options={"include_usage": True})
    chunks = events(server.post("/v1/chat/completions", json=request))

    annotated = [c["index"] for chunk in chunks for c in chunk["choices"] if c["delta"].get("annotations")]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 16
    assert chunks[-1]["rag"]["citations"]
    assert annotated == [0, 1]


def test_official_client_streams_and_completes(server: httpx.Client, index: Index) -> None:
    """OpenAI's own client reads both forms and lists the models."""
    index("docs", DOCS)
    client = openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="none", http_client=None)
    messages = [{"role": "user", "content": QUESTION}]

    whole = client.chat.completions.create(model="rag/docs", messages=messages)
    stream = client.chat.completions.create(model="rag/docs", messages=messages, stream=True)
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    assert whole.choices[0].message.content == streamed
    assert whole.choices[0].message.annotations[0].url_citation.title == "Cats"
    assert [model.id for model in client.models.list()] == ["rag/docs", "scripted", "all-MiniLM-L6-v2"]
    with pytest.raises(openai.NotFoundError, match="rag/none"):
        client.chat.completions.create(model="rag/none", messages=messages)


def test_rag_object_chooses_store_and_passages(server: httpx.Client, index: Index) -> None:
    """An engine model with a `rag` object answers from the named vector stores, as that object says."""
    index("docs", DOCS)
    rag = {"vector_store_ids": ["docs"], "num_passages": 1, "retrieve": "lexical", "reorder": "none"}

    answer = server.post("/v1/chat/completions", json=body(model="scripted", rag=rag)).json()

    assert [passage["filename"] for passage in answer["rag"]["passages"]] == ["cats.md"]
    assert answer["model"] == "scripted"


def test_answerer_answers_from_collections_only(settings: Settings, index: Index, scripted_engine: StartEngine) -> None:
    """What the settings name answers for rag/ models; a model that a request names answers itself, with passages or without."""
    index("docs", DOCS)
    answerer = settings.engine.model_copy(update={"answerer": "mine"})
    asked = {
        "rag/docs": body(),
        "scripted": body(model="scripted"),
        "other": body(model="other", rag={"vector_store_ids": ["docs"]}),
    }
    with (
        scripted_engine(answer="By the first.", adapters={"mine": "By mine.", "other": "By the other."}) as engine,
        running_server(settings.model_copy(update={"engine": answerer}), engine=engine) as client,
    ):
        answers = {name: client.post("/v1/chat/completions", json=request).json() for name, request in asked.items()}
        responded = client.post("/v1/responses", json={"model": "rag/docs", "input": QUESTION, "truncation": "auto"}).json()

    said = {name: answer["choices"][0]["message"]["content"] for name, answer in answers.items()}
    assert said == {"rag/docs": "By mine.", "scripted": "By the first.", "other": "By the other."}
    assert answers["rag/docs"]["model"] == "rag/docs"
    assert responded["output"][-1]["content"][0]["text"] == "By mine."


def test_engine_model_is_passed_through(server: httpx.Client, index: Index) -> None:
    """A plain engine model gets the conversation as it is, and its answer comes back as it is."""
    index("docs", DOCS)

    answer = server.post("/v1/chat/completions", json=body(model="scripted", n=2)).json()

    assert [choice["message"]["content"] for choice in answer["choices"]] == [f"You said: {QUESTION}"] * 2
    assert "rag" not in answer
    assert "annotations" not in answer["choices"][0]["message"]


@pytest.mark.parametrize(
    ("request_body", "status", "code", "param"),
    [
        (body(model="rag/none"), 404, "model_not_found", None),
        (body(model="other"), 404, "model_not_found", "model"),
        (body(messages=[]), 400, "invalid_request", "messages"),
        (body(messages="hello"), 400, "invalid_request", "messages"),
        (body(messages=[{"role": "system", "content": "x"}]), 400, "invalid_request", "messages"),
        (body(messages=[{"role": "user", "content": " "}]), 400, "invalid_request", "messages"),
        (body(rag={"unknown": 1}), 400, "invalid_request", "rag.unknown"),
        (body(rag={"num_passages": 0}), 400, "invalid_request", "rag.num_passages"),
        (body(rag={"rerank": "magic"}), 400, "invalid_request", "rag.rerank"),
        (body(rag={"vector_store_ids": ["none"]}), 404, "not_found", None),
        (body(model="scripted", rag={}), 400, "invalid_request", "rag.vector_store_ids"),
        (body(messages=[{"role": "user", "content": "word " * 9000}]), 400, "context_length_exceeded", "messages"),
    ],
)
def test_faulty_request_gets_openai_error(
    server: httpx.Client, index: Index, request_body: dict, status: int, code: object, param: str | None
) -> None:
    """Every faulty request is answered with OpenAI's error object that names the field."""
    index("docs", DOCS)

    response = server.post("/v1/chat/completions", json=request_body)

    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (status, code, param)
    assert error["message"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b"\xff", b"null"])
def test_malformed_json_is_a_bad_request(server: httpx.Client, content: bytes) -> None:
    """A body that is no JSON object is 400 in OpenAI's shape."""
    response = server.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})

    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_engine_down_is_503_with_retry_after(settings: Settings, index: Index) -> None:
    """Without an engine a question is refused for now, while searching goes on."""
    index("docs", DOCS)
    with running_server(settings, engine="http://127.0.0.1:9/v1") as client:
        for stream in (False, True):
            response = client.post("/v1/chat/completions", json=body(stream=stream))
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) > 0
            assert response.json()["error"]["code"] == "engine_unavailable"
        assert client.post("/v1/vector_stores/docs/search", json={"query": "cats"}).status_code == 200
        assert client.get("/ready").status_code == 503
        assert "engine" in client.get("/ready").json()["missing"]


def test_overloaded_engine_is_tried_again(settings: Settings, index: Index, scripted_engine: StartEngine) -> None:
    """An engine that answers 503 now and then is asked again before the client hears of it."""
    index("docs", DOCS)
    with scripted_engine(fail_every=2) as url, running_server(settings, engine=url) as client:
        statuses = [client.post("/v1/chat/completions", json=body()).status_code for _ in range(4)]

    assert statuses == [200] * 4


def test_error_in_mid_stream_is_an_error_event(settings: Settings, index: Index, scripted_engine: StartEngine) -> None:
    """When the engine breaks off, what was streamed stays and the stream ends with an error object, never with [DONE]."""
    index("docs", DOCS)
    with scripted_engine(break_after_tokens=3) as url, running_server(settings, engine=url) as client:
        response = client.post("/v1/chat/completions", json=body(stream=True))

    lines = [line for line in response.text.split("\n\n") if line]
    assert response.status_code == 200
    assert '"content":"Cats"' in response.text
    assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == "engine_protocol_error"


@pytest.mark.parametrize("stream", [True, False])
def test_disconnect_ends_the_engines_work(
    settings: Settings, index: Index, scripted_engine: StartEngine, *, stream: bool
) -> None:
    """A client that goes away frees its place in the engine, whether it was streaming or not."""
    index("docs", DOCS)
    long_answer = "word " * 1000
    with scripted_engine(answer=long_answer, tokens_per_s=20) as url, running_server(settings, engine=url) as client:
        stats = url.replace("/v1", "/scripted/stats")

        if stream:
            with client.stream("POST", "/v1/chat/completions", json=body(stream=True)) as response:
                next(response.iter_lines())
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post("/v1/chat/completions", json=body(), timeout=1.0)
        for _ in range(100):
            seen = httpx.get(stats).json()
            if seen["aborted"]:
                break
            time.sleep(0.05)

    assert (seen["requests"], seen["finished"], seen["aborted"]) == (1, 0, 1)


def test_prompt_fits_the_engine(settings: Settings, index: Index, scripted_engine: StartEngine) -> None:
    """Passages that do not fit the engine's context are dropped from the lowest rank, and their number is told."""
    index("docs", DOCS)
    with scripted_engine(context_length=110) as url, running_server(settings, engine=url) as client:
        answer = client.post("/v1/chat/completions", json=body(max_tokens=30)).json()

    assert [passage["filename"] for passage in answer["rag"]["passages"]] == ["cats.md"]
    assert answer["rag"]["num_dropped"] == 1
