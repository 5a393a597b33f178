"""Asks a server, over HTTP, questions that are each answered from chosen documents of a collection."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httpx

from eval.concurrently import done_for_each
from eval.qa.datasets import QaQuestion
from eval.qa.predictions import Prediction

# Of a passage, which the server may cut.
MOST_CHUNKS = 4


@dataclass(frozen=True, slots=True)
class Served:
    """The collection, and the document id of each passage's text in it."""

    client: httpx.AsyncClient
    collection: str
    document_ids: Mapping[str, str]


async def answer_served(
    served: Served, questions: Sequence[QaQuestion], *, model: str, answer_tokens: int, concurrency: int
) -> list[Prediction]:
    """Return what came of each question, in their order; a model of the engine answers from the question's own passages."""

    async def answer_one(question: QaQuestion) -> Prediction:
        return await _answer(served, question, model=model, answer_tokens=answer_tokens)

    return await done_for_each(questions, answer_one, concurrency=concurrency, description=model)


async def _answer(served: Served, question: QaQuestion, *, model: str, answer_tokens: int) -> Prediction:
    ids = [served.document_ids[context.text] for context in question.contexts]
    rag = {
        "vector_store_ids": [served.collection],
        "filters": {"type": "in", "key": "document_id", "value": ids},
        "num_candidates": MOST_CHUNKS * len(ids),
        "num_passages": MOST_CHUNKS * len(ids),
        "rerank": "none",
    }
    messages = [{"role": "user", "content": question.question}]
    body = {"model": model, "messages": messages, "temperature": 0, "max_tokens": answer_tokens, "rag": rag}
    started = time.perf_counter()
    try:
        response = await served.client.post("/v1/chat/completions", json=body)
    except httpx.HTTPError as error:
        return Prediction(id=question.id, error=f"{type(error).__name__}: {error}")
    if response.status_code != 200:
        return Prediction(id=question.id, error=f"{response.status_code}: {response.text}")
    completion = response.json()
    answer = completion["choices"][0]["message"].get("content") or ""
    told = {"id": question.id, "answer": answer, "rag": completion["rag"], "seconds": time.perf_counter() - started}
    return Prediction.model_validate(told)
