"""The client for scoring endpoints against small servers, and against a real vLLM with a model that anyone can compute."""

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rag_server.engines.scoring_http import ScoringHttpEngine
from rag_server.engines.vllm_process import VllmProcess
from rag_server.engines.vllm_tasks import RERANK
from rag_server.errors import ConfigError, EngineProtocolError, EngineRequestError, EngineUnavailableError
from rag_server.types import Passage
from rerankers.listwise_scorer import ListwiseScorerReranker
from tests.conftest import served
from tests.rag_server.engines.tiny_ranker import CONTEXT_LENGTH, save_tiny_ranker


@asynccontextmanager
async def answering(answer: Response) -> AsyncIterator[tuple[ScoringHttpEngine, list[dict[str, Any]]]]:
    """An endpoint that always gives that answer, and what it was sent."""
    bodies: list[dict[str, Any]] = []

    async def endpoint(request: Request) -> Response:
        content = json.loads(await request.body())
        bodies.append({"path": request.url.path, "key": request.headers.get("authorization"), **content})
        return answer

    with served(Starlette(routes=[Route("/{path:path}", endpoint, methods=["POST"])])) as url:
        async with aclosing(ScoringHttpEngine(lambda: f"{url}/v1/", model="scorer", api_key="secret")) as engine:
            yield engine, bodies


def results(*pairs: tuple[object, object]) -> list[dict[str, object]]:
    return [{"index": index, "relevance_score": score, "document": {"text": "x"}} for index, score in pairs]


async def test_scores_come_back_in_the_order_of_the_texts() -> None:
    """The endpoint sorts by score; the client puts the scores back to their texts, and tells the tokens."""
    answer = {"id": "1", "model": "scorer", "usage": {"total_tokens": 42}, "results": results((2, 0.9), (0, 0.5), (1, -1))}
    async with answering(JSONResponse(answer)) as (engine, bodies):
        scored = await engine.score("q", ["a", "b", "c"])

    assert scored == ([0.5, -1.0, 0.9], 42)
    assert bodies == [
        {"path": "/v1/rerank", "key": "Bearer secret", "model": "scorer", "query": "q", "documents": ["a", "b", "c"]}
    ]


async def test_endpoint_that_does_not_count_tokens_is_used_all_the_same() -> None:
    """Cohere's shape tells no tokens."""
    async with answering(JSONResponse({"results": results((0, 1))})) as (engine, _):
        assert await engine.score("q", ["a"]) == ([1.0], 0)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"results": None},
        {"results": []},
        {"results": results((0, 1))},
        {"results": results((0, 1), (0, 2))},
        {"results": results((0, 1), (1, 2), (1, 2))},
        {"results": results((0, 1), (2, 2))},
        {"results": results((0, 1), (-1, 2))},
        {"results": results((0, 1), (True, 2))},
        {"results": results((0, 1), ("1", 2))},
        {"results": results((0, 1), (1, None))},
        {"results": results((0, 1), (1, "high"))},
        {"results": results((0, 1), (1, 2)), "usage": {"total_tokens": -1}},
        {"results": [1, 2]},
    ],
)
async def test_anything_but_one_score_per_text_is_a_protocol_error(answer: dict[str, object]) -> None:
    """Missing, duplicate, unknown or malformed indices and scores are a named error."""
    async with answering(JSONResponse(answer)) as (engine, _):
        with pytest.raises(EngineProtocolError, match="scoring endpoint"):
            await engine.score("q", ["a", "b"])


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_scores_that_are_no_numbers_are_a_protocol_error(number: str) -> None:
    """What Python's JSON reader lets through beyond JSON is refused."""
    answer = Response(f'{{"results": [{{"index": 0, "relevance_score": {number}}}]}}')
    async with answering(answer) as (engine, _):
        with pytest.raises(EngineProtocolError, match="relevance_score"):
            await engine.score("q", ["a"])


async def test_refusals_and_overload_have_their_names() -> None:
    """A refusal keeps its status and body; an overloaded or absent endpoint is unavailable after three tries."""
    refusal = {"error": {"message": "too long", "type": "some_type", "param": None, "code": "c"}}
    async with answering(JSONResponse(refusal, status_code=400)) as (engine, bodies):
        with pytest.raises(EngineRequestError) as caught:
            await engine.score("q", ["a"])
        assert (caught.value.status, caught.value.body, len(bodies)) == (400, refusal, 1)
    async with answering(Response(status_code=503)) as (engine, bodies):
        with pytest.raises(EngineUnavailableError):
            await engine.score("q", ["a"])
        assert len(bodies) == 3
    async with aclosing(ScoringHttpEngine(lambda: "http://127.0.0.1:9", model="m")) as engine:
        with pytest.raises(EngineUnavailableError, match="cannot be reached"):
            await engine.score("q", ["a"])


def test_folder_without_config_is_refused_with_the_rerankers_setting(tmp_path: Path) -> None:
    """Of the two models that a vLLM may be started for, the message names the setting of the one that is wrong."""
    with pytest.raises(ConfigError, match=r"RAG_RERANK__MODEL: .* or set RAG_RERANK__BASE_URL"):
        VllmProcess(tmp_path, model=tmp_path, task=RERANK)


@pytest.mark.vllm
async def test_real_vllm_scores_as_transformers_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vLLM that is started here for scoring gives a model's own scores; what exceeds its context is cut, none is lost."""
    # Enough for a model of two layers.
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    folder = tmp_path / "tiny"
    save_tiny_ranker(folder)
    child = VllmProcess(tmp_path / "data", model=folder, task=RERANK)
    child.start()
    query = "How long do cats sleep?"
    texts = [
        "Cats sleep for sixteen hours a day.",
        "A ketch has two masts.",
        "",
        "Cats sleep for sixteen hours a day.",
        "Ünïcödé",
    ]
    command = [sys.executable, "-m", "tests.rag_server.engines.tiny_ranker", str(folder)]
    reference = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
    printed, _ = await reference.communicate(json.dumps({"query": query, "texts": texts}).encode())
    try:
        await asyncio.wait_for(child.wait_ready(), 300)
        async with aclosing(ScoringHttpEngine(lambda: child.base_url, model="tiny")) as engine:
            scores, num_tokens = await engine.score(query, texts)
            candidates = [
                Passage(index, str(index), "", "", "", text, 0, 0, 0.0, index + 1)
                for index, text in enumerate(["word " * 300, "x" * 20_000, "<|embed<|embed_token|>_token|>", ""] * 25)
            ]
            ranking = await ListwiseScorerReranker(engine, passage_words=200).rerank(query, candidates)
    finally:
        await child.stop()

    assert scores == pytest.approx(json.loads(printed), abs=1e-3)
    assert max(scores) - min(scores) > 0.05
    # A token is a byte here; the prompt around the texts is longer than they are.
    assert num_tokens > len("".join(texts))
    assert sorted(passage.id for passage in ranking.passages) == list(range(100))
    assert (ranking.report.calls, ranking.report.fallback) == (2, None)
    assert 0 < ranking.report.prompt_tokens < 2 * CONTEXT_LENGTH
    assert ranking.report.words_cut > 25 * 100
    assert child.log_path.name == "vllm-rerank.log"
