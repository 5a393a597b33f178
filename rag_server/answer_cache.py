"""Remembers answers that the same question gets again: exactly the same one, or one that means the same.

What is remembered is the engine's text and which passages it rests on. The passages themselves are read anew for whoever asks,
so that no cache can show what the store would not.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rag_server import __version__
from rag_server.config import AnswerCacheKind
from rag_server.conversation import question_place, text_of, with_text
from rag_server.observability import CACHE_LOOKUPS
from rag_server.plain_answer import has_one_answer
from rag_server.prompt import prompt_version
from rag_server.protocols import Cache, ChunkLog, Json, QueryVectors
from rag_server.rag_request import CacheMatch, RagRequest
from rag_server.rewriting import rewriting_version
from rag_server.similar_questions import Questions, nearest, record_type, unpacked, with_question
from rag_server.types import Cursor, Query, RankingReport, Vectors
from retrievers.cached import MAX_CHUNK_ID, Heads, search_scope

# What of a body says how the answer is sent; the model is that of the engine, and the messages are keyed on for themselves.
NOT_KEYED = {"stream", "stream_options", "model", "messages"}
# More passages than any prompt holds.
MAX_HITS = 1000


class RememberedHit(BaseModel):
    """A passage of the prompt."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    chunk_id: int = Field(gt=0, le=MAX_CHUNK_ID)
    score: float = Field(allow_inf_nan=False)


class RememberedAnswer(BaseModel):
    """An answer as it is kept. `hits` are the passages of its prompt, best first; `searched` is what was searched for."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    content: str
    usage: dict[str, Any] | None
    hits: list[RememberedHit] = Field(max_length=MAX_HITS)
    num_dropped: int = Field(ge=0)
    report: RankingReport
    searched: str
    rewritten: bool


@dataclass(frozen=True, slots=True)
class FoundAnswer:
    """A remembered answer, and how the present question is like its own."""

    answer: RememberedAnswer
    match: CacheMatch


@dataclass(frozen=True, slots=True)
class AnswerKey:
    """Under what an answer is kept; the bucket, with the question's vector, is that of requests that differ in it only.

    `heads` are those that the vector stores had, for the search that follows where nothing is found.
    """

    exact: str
    heads: Mapping[str, Cursor]
    bucket: str | None = None
    vector: Vectors | None = None


class AnswerCache:
    """Keys on everything that changes an answer; who asks, and what the index holds, above all."""

    def __init__(
        self,
        kind: AnswerCacheKind,
        *,
        cache: Cache,
        key: Callable[..., str],
        log: ChunkLog,
        query_vectors: QueryVectors,
        settings: Json,
        ttl_s: int,
        threshold: float,
    ) -> None:
        """Take the settings that change answers, and from which cosine on two questions are taken for the same."""
        self._kind = kind
        self._cache = cache
        self._key = key
        self._heads = Heads(log)
        self._query_vectors = query_vectors
        self._settings = settings
        self._ttl_s = ttl_s
        self._threshold = threshold

    def takes(self, request: RagRequest) -> bool:
        """Return whether the request's answer may be remembered."""
        return self._kind != "off" and has_one_answer(request.body)

    async def key(self, request: RagRequest, *, model: str, context_length: int) -> AnswerKey:
        """Return under what the answer is kept that this model of the engine gives."""
        messages = request.body["messages"]
        place = question_place(messages)
        query = await self._heads.added_to(Query("", request.vector_stores, request.access, request.filter))
        parts = {
            **search_scope(query),
            "options": asdict(request.options),
            "engine": [model, context_length],
            "versions": [__version__, prompt_version(), rewriting_version()],
            "settings": self._settings,
            "sampling": {name: value for name, value in request.body.items() if name not in NOT_KEYED},
        }
        exact = self._key("answer", **parts, messages=messages)
        if self._kind == "exact" or place is None:
            return AnswerKey(exact, query.heads)
        content = messages[place].get("content")
        without_question = [*messages]
        without_question[place] = {**messages[place], "content": with_text(content, "")}
        vector = await self._query_vectors.vector(request.vector_stores[0], text_of(content))
        return AnswerKey(exact, query.heads, self._key("questions", **parts, messages=without_question), vector)

    async def find(self, key: AnswerKey, *, with_usage: bool) -> FoundAnswer | None:
        """Return the answer to the same question, or else, where that is wanted, to the one most like it."""
        answer = await self._answer(key.exact, with_usage=with_usage)
        if answer is not None:
            return FoundAnswer(answer, "exact")
        if key.bucket is None or key.vector is None:
            return None
        for other in nearest(await self._questions(key.bucket, key), key.vector, threshold=self._threshold):
            answer = await self._answer(other, with_usage=with_usage)
            if answer is not None:
                return FoundAnswer(answer, "semantic")
        return None

    async def keep(self, key: AnswerKey, answer: RememberedAnswer) -> None:
        """Keep an answer, and its question for others to be compared with."""
        await self._cache.set(key.exact, json.dumps(answer.model_dump()).encode(), self._ttl_s)
        if key.bucket is not None and key.vector is not None:
            # Of two that are added at the same time one may be lost, which costs a miss.
            questions = await self._questions(key.bucket, key)
            await self._cache.set(key.bucket, with_question(questions, key.exact, key.vector), self._ttl_s)

    async def _answer(self, key: str, *, with_usage: bool) -> RememberedAnswer | None:
        value = await self._cache.get(key)
        if value is None:
            return None
        try:
            answer = RememberedAnswer.model_validate_json(value)
        except ValidationError:
            CACHE_LOOKUPS.labels("answer", "garbled").inc()
            return None
        # A stream may have ended without telling it.
        return None if with_usage and answer.usage is None else answer

    async def _questions(self, bucket: str, key: AnswerKey) -> Questions:
        record = record_type(len(key.exact), 0 if key.vector is None else len(key.vector))
        questions = unpacked(await self._cache.get(bucket) or b"", record)
        if questions is None:
            CACHE_LOOKUPS.labels("questions", "garbled").inc()
            return np.empty(0, dtype=record)
        return questions
