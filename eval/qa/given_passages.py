"""Asks questions about passages given with each: the served query flow with these passages in the place of a search."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import get_args

from eval.concurrently import done_for_each
from eval.qa.datasets import QaContext
from eval.qa.predictions import Prediction
from indexers.chunking import sentence_spans
from rag_server.config import ReorderKind
from rag_server.errors import EngineProtocolError, RagServerError
from rag_server.pipeline import RagOptions, RagPipeline, RagRequest
from rag_server.protocols import Engine
from rag_server.rewriting import QueryRewriter
from rag_server.types import Access, Hit, Passage, Query
from rerankers.first_stage import FirstStageOrder
from rerankers.reorder import reorder

MODEL_NAME = "given-passages"
# No question here has a conversation before it.
REWRITE_DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """A question with the passages to answer it from, best first, and how they are placed in the prompt."""

    id: str
    question: str
    ranked: tuple[QaContext, ...]
    reorder: ReorderKind


class GivenPassages:
    """The retriever that finds, and the store that holds, the passages given: passage n is of rank n, from 1."""

    def __init__(self, ranked: Sequence[QaContext]) -> None:
        self._passages = {rank: _passage(rank, context) for rank, context in enumerate(ranked, start=1)}

    async def retrieve(self, query: Query, k: int) -> list[Hit]:
        """Return the `k` best."""
        del query
        return [Hit(passage.id, passage.score) for passage in self._passages.values()][:k]

    def of_each(self, asked: Sequence[tuple[Sequence[Hit], Access]]) -> list[list[Passage]]:
        """Return for each the passages of its hits, which everyone may read."""
        return [[self._passages[hit.chunk_id] for hit in hits] for hits, _ in asked]


async def answer_all(
    engine: Engine, asked: Sequence[AskedQuestion], *, answer_tokens: int, concurrency: int, model: str | None = None
) -> list[Prediction]:
    """Return what came of each question, in their order, with the progress on stderr; at most `concurrency` at a time.

    `model` None means the engine's default.
    """

    async def answer_one(question: AskedQuestion) -> Prediction:
        return await answer(engine, question, answer_tokens=answer_tokens, model=model)

    return await done_for_each(asked, answer_one, concurrency=concurrency, description="answers")


async def answer(engine: Engine, asked: AskedQuestion, *, answer_tokens: int, model: str | None = None) -> Prediction:
    """Return the answer with its sources as the API gives them, at temperature 0, or the error that took its place."""
    pipeline, request = pipeline_of(engine, asked.ranked, answer_tokens), request_of(asked, answer_tokens, model)
    started = time.perf_counter()
    try:
        completion = await pipeline.complete(await pipeline.prepare(request))
        if not completion.get("choices"):
            raise EngineProtocolError("the engine's completion has no choices")
    except RagServerError as error:
        return Prediction(id=asked.id, error=f"{error.code}: {error}", seconds=time.perf_counter() - started)
    usage = completion.get("usage") or {}
    return Prediction.model_validate(
        {
            "id": asked.id,
            "answer": completion["choices"][0]["message"].get("content") or "",
            "rag": completion["rag"],
            "seconds": time.perf_counter() - started,
            "prompt_tokens": usage.get("prompt_tokens"),
            "output_tokens": usage.get("completion_tokens"),
        }
    )


def pipeline_of(engine: Engine, ranked: Sequence[QaContext], answer_tokens: int) -> RagPipeline:
    """Return the query flow in which these passages are what every search finds."""
    given = GivenPassages(ranked)
    return RagPipeline(
        rewriter=QueryRewriter(engine, deadline_s=REWRITE_DEADLINE_S),
        retrievers={"dense": given},
        rerankers={"none": FirstStageOrder()},
        passages=given,
        place={kind: partial(reorder, kind=kind) for kind in get_args(ReorderKind)},
        engine=engine,
        sentences=sentence_spans,
        answer_tokens=answer_tokens,
    )


def request_of(asked: AskedQuestion, answer_tokens: int, model: str | None = None) -> RagRequest:
    """Return the question as a request that puts all of its passages into the prompt, at temperature 0."""
    num_passages = len(asked.ranked)
    return RagRequest(
        body={"messages": [{"role": "user", "content": asked.question}], "temperature": 0.0, "max_tokens": answer_tokens},
        model_name=MODEL_NAME,
        engine_model=model,
        vector_stores=(),
        options=RagOptions(
            retrieve="dense", num_candidates=num_passages, rerank="none", reorder=asked.reorder, num_passages=num_passages
        ),
        passage_url=lambda passage_id: f"#passage-{passage_id}",
        access=Access(),
    )


def _passage(rank: int, context: QaContext) -> Passage:
    return Passage(
        id=rank,
        document_id=str(rank),
        file_id="",
        # Stands in the prompt where a passage has no title; a name of its own could tell the rank.
        filename="passage",
        title=context.title,
        text=context.text,
        start=0,
        end=len(context.text),
        score=1 / rank,
        rank=rank,
    )
