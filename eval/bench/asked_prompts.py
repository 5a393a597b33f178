"""Prompts as the server makes them of real questions: alone, and as the turns of conversations; passages are found by BM25."""

import asyncio
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.qa.datasets import QaContext, load_questions
from eval.ranking.datasets import json_rows, load_beir
from indexers.lexical_index import TantivyIndex
from rag_server.config import ReorderKind
from rag_server.prompt import build_prompt
from rag_server.protocols import Json
from rag_server.types import Cursor, LoggedChunk, LogPage, Passage
from rerankers.reorder import reorder

XQUAD = "xquad-"
CONVERSATIONS_FROM = "xquad-en"


@dataclass(frozen=True, slots=True)
class Turn:
    """A question, an answer to it (empty where the data set has none), and the passages found for it, best first."""

    question: str
    answer: str
    ranked: tuple[QaContext, ...]


class Searcher:
    """BM25 over the passages of a data set."""

    def __init__(self, passages: Sequence[QaContext], folder: Path) -> None:
        self._passages = passages
        self._index = TantivyIndex(folder)
        no_vector = np.empty(0, dtype=np.float32)
        chunks = (LoggedChunk(id_, one.title, one.text, no_vector) for id_, one in enumerate(passages, start=1))
        self._index.apply(LogPage(tuple(chunks), (), Cursor(chunk_id=len(passages))))

    def find(self, question: str, number: int) -> tuple[QaContext, ...]:
        """Return the passages that match best."""
        return tuple(self._passages[hit.chunk_id - 1] for hit in self._index.search(question, number))


def questions_of(name: str, number: int, *, num_passages: int) -> list[Turn]:
    """Return so many questions of a data set, drawn at random, with their passages.

    Raises:
        ConfigError: It is not where RAG_EVAL_DATA says.
    """
    passages: Sequence[QaContext]
    if name.startswith(XQUAD):
        dataset = load_questions(name)
        texts, passages = [question.question for question in dataset.questions], dataset.pool
    else:
        judged = load_beir(name)
        texts = list(judged.queries.values())
        rows = json_rows(judged.corpus_path)
        passages = [QaContext(str(row.get("title") or ""), str(row["text"]), is_gold=False) for row in rows]
    drawn = random.Random(0).sample(texts, min(number, len(texts)))
    with tempfile.TemporaryDirectory() as folder:
        searcher = Searcher(passages, Path(folder) / "index")
        return [Turn(text, "", searcher.find(text, num_passages)) for text in drawn]


def conversations(number: int, *, num_turns: int, num_passages: int) -> list[list[Turn]]:
    """Return conversations: the first so many questions about an article each, with their answers and passages.

    Raises:
        ConfigError: The data set is not where RAG_EVAL_DATA says.
    """
    dataset = load_questions(CONVERSATIONS_FROM)
    by_article: dict[str, list[Turn]] = {}
    with tempfile.TemporaryDirectory() as folder:
        searcher = Searcher(dataset.pool, Path(folder) / "index")
        for question in dataset.questions:
            turns = by_article.setdefault(question.contexts[0].title, [])
            if len(turns) < num_turns:
                found = searcher.find(question.question, num_passages)
                turns.append(Turn(question.question, question.answers[0], found))
    return [turns for turns in by_article.values() if len(turns) == num_turns][:number]


def prompt_of(messages: Sequence[Json], ranked: Sequence[QaContext], *, order: ReorderKind, separator: str = "") -> list[Json]:
    """Return the prompt that the server makes of a conversation and all of these passages."""
    passages = [
        Passage(rank, str(rank), "", "passage", found.title, found.text, 0, len(found.text), 1 / rank, rank)
        for rank, found in enumerate(ranked, start=1)
    ]

    async def count(_: Sequence[Json]) -> int:
        return 0

    prompt = build_prompt(
        messages,
        passages,
        place=lambda kept: reorder(kept, order),
        count_tokens=count,
        max_tokens=1,
        separator=separator,
    )
    return asyncio.run(prompt).messages


def prompts_of(turns: Sequence[Turn], *, order: ReorderKind, are_kept: bool) -> Iterator[list[Json]]:
    """Yield the prompt of each turn of a conversation.

    The earlier questions stand in it as they were asked, which is how it is, or with the passages that they had (`are_kept`).
    """
    history: list[Json] = []
    for turn in turns:
        question: Json = {"role": "user", "content": turn.question}
        prompt = prompt_of([*history, question], turn.ranked, order=order)
        yield prompt
        history += [prompt[-1] if are_kept else question, {"role": "assistant", "content": turn.answer}]
