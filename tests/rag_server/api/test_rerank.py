"""Reranking over HTTP, in the shape of Jina and vLLM and in Cohere's."""

import asyncio
import json
import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from rag_server.errors import EngineUnavailableError
from rag_server.protocols import Embedder
from rerankers.listwise_scorer import ListwiseScorerReranker
from rerankers.within_deadline import WithinDeadline
from tests.live import Live, live_server

QUERY = "How many hours do cats sleep?"
# By falling number of words shared with the query, as the scripted engine ranks: 2, 0, 1, 3.
DOCUMENTS = ["Boats sail.", "Cats hunt.", "Cats sleep.", "Cats sleep for sixteen hours."]
BEST_FIRST = [3, 2, 1, 0]


class WordScorer:
    """A scoring model that counts the letter e; waits, or fails, when it is told to."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.error: Exception | None = None
        self.waits = False
        self.waiting = threading.Event()
        self.cancelled = threading.Event()

    async def score(self, query: str, texts: Sequence[str]) -> tuple[list[float], int]:
        self.seen = list(texts)
        if self.error is not None:
            raise self.error
        if self.waits:
            self.waiting.set()
            try:
                await asyncio.sleep(60)
            finally:
                self.cancelled.set()
        return [text.count("e") / 8 for text in texts], 7


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """A server that keeps the first stage's order unless a request names a reranker."""
    with live_server(tmp_path_factory.mktemp("rerank"), embedder) as server:
        # The first request waits for the models.
        assert post(server, "/v1/rerank").status_code == 200
        yield server


@pytest.fixture
def scorer(live: Live) -> WordScorer:
    """The model of the server's listwise_scorer."""
    scorer = WordScorer()
    reranker = WithinDeadline(ListwiseScorerReranker(scorer, passage_words=100), deadline_s=60)
    live.services._pipeline._rerankers["listwise_scorer"] = reranker
    return scorer


def post(live: Live, path: str, **fields: Any) -> httpx.Response:
    return live.client.post(path, json={"query": QUERY, "documents": DOCUMENTS, **fields})


def answered(live: Live, path: str, **fields: Any) -> dict[str, Any]:
    response = post(live, path, **fields)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def indices(answer: dict[str, Any]) -> list[int]:
    return [result["index"] for result in answer["results"]]


def test_jina_shape_field_by_field(live: Live) -> None:
    """/v1/rerank answers as Jina and vLLM do: documents with their index and score, best first, and the usage."""
    answer = answered(live, "/v1/rerank", model="full_ranking")

    assert set(answer) == {"id", "object", "model", "usage", "results", "rag"}
    assert re.fullmatch(r"rerank-[0-9a-f]{32}", answer["id"])
    assert (answer["object"], answer["model"]) == ("list", "full_ranking")
    assert answer["results"] == [
        {"index": index, "relevance_score": 1 / rank, "document": {"text": DOCUMENTS[index]}}
        for rank, index in enumerate(BEST_FIRST, start=1)
    ]
    report = answer["rag"]["rerank"]
    assert answer["usage"] == {
        "prompt_tokens": report["prompt_tokens"],
        "total_tokens": report["prompt_tokens"] + report["output_tokens"],
    }
    assert report["prompt_tokens"] > report["output_tokens"] > 0
    assert (answer["rag"]["kind"], answer["rag"]["score"]) == ("full_ranking", "reciprocal_rank")
    assert (report["kind"], report["calls"], report["well_formed"], report["fallback"]) == ("full_ranking", 1, 1, None)


def test_cohere_shape_field_by_field(live: Live) -> None:
    """/v2/rerank answers as Cohere does: indices and scores, best first, and the meta object."""
    answer = answered(live, "/v2/rerank", model="full_ranking")

    assert set(answer) == {"id", "results", "meta", "rag"}
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", answer["id"])
    assert answer["results"] == [
        {"index": index, "relevance_score": 1 / rank} for rank, index in enumerate(BEST_FIRST, start=1)
    ]
    report = answer["rag"]["rerank"]
    assert answer["meta"] == {
        "api_version": {"version": "2"},
        "billed_units": {"search_units": 1},
        "tokens": {"input_tokens": report["prompt_tokens"], "output_tokens": report["output_tokens"]},
    }


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
def test_every_listwise_reranker_can_be_named(live: Live, path: str) -> None:
    """The model of a request is the reranker; without one, or with `default`, it is the configured one, here none."""
    assert indices(answered(live, path, model="sliding_window")) == BEST_FIRST
    for model in (None, "", "default", "none"):
        answer = answered(live, path, model=model)
        assert indices(answer) == [0, 1, 2, 3]
        assert [result["relevance_score"] for result in answer["results"]] == [1, 1 / 2, 1 / 3, 1 / 4]
        assert (answer["rag"]["kind"], answer["rag"]["score"]) == ("none", "reciprocal_rank")


def test_scores_are_the_models_where_it_computes_them(live: Live, scorer: WordScorer) -> None:
    """A reranker that scores gives its own scores, and the answer says that they are."""
    answer = answered(live, "/v1/rerank", model="listwise_scorer")

    counts = [document.count("e") / 8 for document in DOCUMENTS]
    assert [(result["index"], result["relevance_score"]) for result in answer["results"]] == sorted(
        enumerate(counts), key=lambda pair: -pair[1]
    )
    assert answer["rag"]["score"] == "model"
    assert answer["usage"] == {"prompt_tokens": 7, "total_tokens": 7}


def test_fallback_is_told_and_has_no_model_scores(live: Live, scorer: WordScorer) -> None:
    """When the model is down the documents keep their order with reciprocal ranks, and both shapes say why."""
    scorer.error = EngineUnavailableError("the engine is down")

    jina = answered(live, "/v1/rerank", model="listwise_scorer")
    cohere = answered(live, "/v2/rerank", model="listwise_scorer")

    for answer in (jina, cohere):
        assert [(r["index"], r["relevance_score"]) for r in answer["results"]] == [(i, 1 / (i + 1)) for i in range(4)]
        assert answer["rag"]["score"] == "reciprocal_rank"
        assert answer["rag"]["rerank"]["fallback"] == "the engine is down"
    assert cohere["meta"]["warnings"] == ["the documents are in the order of the request: the engine is down"]


@pytest.mark.parametrize(("top_n", "expected"), [(1, [3]), (3, [3, 2, 1]), (4, BEST_FIRST), (1000, BEST_FIRST)])
def test_top_n_cuts_the_answer(live: Live, top_n: int, expected: list[int]) -> None:
    """At most `top_n` results come back, the best ones."""
    for path in ("/v1/rerank", "/v2/rerank"):
        assert indices(answered(live, path, model="full_ranking", top_n=top_n)) == expected


def test_documents_are_left_out_when_asked(live: Live) -> None:
    """`return_documents` false leaves index and score; null is as if it were not sent."""
    without = answered(live, "/v1/rerank", return_documents=False)["results"]
    by_default = answered(live, "/v1/rerank", return_documents=None)["results"]

    assert [set(result) for result in without] == [{"index", "relevance_score"}] * 4
    assert [result["document"]["text"] for result in by_default] == DOCUMENTS


def test_unusual_documents_are_ranked_like_any_other(live: Live, scorer: WordScorer) -> None:
    """Objects with a text, duplicates and empty texts each come back once, by their index."""
    documents = [{"text": "see", "title": "unread"}, "", "see", {"text": ""}, "e", "[2] > [1]", "\u0000\n"]

    answer = answered(live, "/v1/rerank", model="listwise_scorer", documents=documents, unknown_field={"a": 1})

    assert indices(answer) == [0, 2, 4, 1, 3, 5, 6]
    texts = ["see", "", "see", "", "e", "[2] > [1]", "\u0000\n"]
    assert [result["document"]["text"] for result in answer["results"]] == [texts[index] for index in indices(answer)]


@pytest.mark.parametrize(("limit", "read"), [(2, "a b"), (3, "a b  c"), (0, "a b  c"), (None, "a b  c")])
def test_max_tokens_per_doc_cuts_what_is_read(live: Live, scorer: WordScorer, limit: int | None, read: str) -> None:
    """The model reads so many words of a document; the answer holds it whole. 0 and null mean no limit."""
    answer = answered(live, "/v1/rerank", model="listwise_scorer", documents=["a b  c"], max_tokens_per_doc=limit)

    assert [text.split() for text in scorer.seen] == [read.split()]
    assert answer["results"][0]["document"]["text"] == "a b  c"


def test_a_thousand_documents_are_ranked(live: Live, scorer: WordScorer) -> None:
    """The most documents that a request may hold come back, each once."""
    documents = ["e" * (number % 50) for number in range(1000)]

    answer = answered(live, "/v2/rerank", model="listwise_scorer", documents=documents)

    assert sorted(indices(answer)) == list(range(1000))


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"documents": []}, "documents"),
        ({"documents": None}, "documents"),
        ({"documents": "Cats sleep."}, "documents"),
        ({"documents": ["x"] * 1001}, "documents"),
        ({"documents": ["x", 5]}, "documents.1"),
        ({"documents": ["x", None]}, "documents.1"),
        ({"documents": [{"title": "x"}]}, "documents.0.text"),
        ({"documents": [{"text": ["x"]}]}, "documents.0.text"),
        ({"documents": ["x" * 1_000_001]}, "documents.0.text"),
        ({"query": ""}, "query"),
        ({"query": None}, "query"),
        ({"query": ["x"]}, "query"),
        ({"query": "x" * 100_001}, "query"),
        ({"top_n": 0}, "top_n"),
        ({"top_n": -1}, "top_n"),
        ({"top_n": "all"}, "top_n"),
        ({"max_tokens_per_doc": -1}, "max_tokens_per_doc"),
        ({"model": 5}, "model"),
    ],
)
def test_malformed_requests_are_refused_by_field(live: Live, path: str, fields: dict[str, Any], param: str) -> None:
    """What is out of bounds or of a wrong type is 400 in OpenAI's error shape, with the field's name."""
    response = post(live, path, **fields)

    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, param, "invalid_request")
    assert error["message"].startswith(f"{param}: ")


@pytest.mark.parametrize("content", ["", "nonsense", "[]", "null", '{"query": "x"', '{"query": "x"}'])
def test_bodies_that_are_no_request_are_refused(live: Live, content: str) -> None:
    """Whatever is no JSON object with a query and documents is 400."""
    response = live.client.post("/v1/rerank", content=content, headers={"content-type": "application/json"})

    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_half_a_character_is_refused(live: Live) -> None:
    """JSON can escape half of a character; it is no text."""
    body = json.dumps({"query": QUERY, "documents": ["\ud800"]})

    response = live.client.post("/v1/rerank", content=body, headers={"content-type": "application/json"})

    assert (response.status_code, response.json()["error"]["param"]) == (400, "documents.0")


def test_unknown_model_is_told_what_to_send(live: Live) -> None:
    """A model of other servers is 404, with the rerankers that are set up; a known one that is not set up is 400."""
    live.services._pipeline._rerankers.pop("listwise_scorer", None)

    unknown = post(live, "/v2/rerank", model="rerank-v3.5")
    absent = post(live, "/v2/rerank", model="listwise_scorer")

    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    assert "full_ranking, none, sliding_window as model" in unknown.json()["error"]["message"]
    assert "the configured one, which is none" in unknown.json()["error"]["message"]
    assert (absent.status_code, absent.json()["error"]["code"]) == (400, "invalid_request")
    assert "RAG_RERANK__KIND=listwise_scorer" in absent.json()["error"]["message"]


def test_rankings_are_counted(live: Live) -> None:
    """Each ranking is in the metrics, as those of questions are."""
    labels = {"kind": "sliding_window", "outcome": "ranked"}
    before = REGISTRY.get_sample_value("rag_rerank_total", labels) or 0

    answered(live, "/v1/rerank", model="sliding_window")
    answered(live, "/v2/rerank", model="sliding_window")

    assert REGISTRY.get_sample_value("rag_rerank_total", labels) == before + 2


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
def test_work_ends_when_the_client_goes_away(live: Live, scorer: WordScorer, path: str) -> None:
    """A client that does not wait for the answer does not keep the model at work."""
    scorer.waits = True
    body = {"query": QUERY, "documents": DOCUMENTS, "model": "listwise_scorer"}

    with pytest.raises(httpx.ReadTimeout):
        live.client.post(path, json=body, timeout=1.0)

    assert scorer.waiting.is_set()
    assert scorer.cancelled.wait(30)


def test_key_is_required_once_there_is_one(live: Live) -> None:
    """With a key made, requests without one are 401 and those with it are answered; without any key all are answered."""
    key, secret = live.services.store.keys.create("rerank")
    try:
        without = [post(live, path).status_code for path in ("/v1/rerank", "/v2/rerank")]
        body = {"query": QUERY, "documents": DOCUMENTS}
        with_key = [live.as_key(secret).post(path, json=body).status_code for path in ("/v1/rerank", "/v2/rerank")]
    finally:
        live.services.store.keys.revoke(key.id)

    assert (without, with_key) == ([401, 401], [200, 200])
    assert post(live, "/v1/rerank").status_code == 200
