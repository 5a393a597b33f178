"""Finds passages that do not answer a question, as a search would bring them: by BM25, by vectors, and at random."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from indexers.lexical_index import TantivyIndex
from rag_server.protocols import Embedder
from rag_server.training.rows import Row, RowPassage
from rag_server.types import Cursor, LoggedChunk, LogPage

# Of each retriever; below them the passages are hardly harder than random ones.
NUM_HARD = 10


@dataclass(frozen=True, slots=True)
class Distractors:
    """Passages beside those of a row that hold none of its answers, by the kind of retriever that found them."""

    by_kind: dict[str, tuple[RowPassage, ...]]

    def draw(self, number: int, chooser: random.Random) -> list[RowPassage]:
        """Return so many, each text once, as far as there are: each from a kind drawn anew, its hardest ones first."""
        left = {kind: list(passages) for kind, passages in self.by_kind.items()}
        drawn: dict[str, RowPassage] = {}
        while len(drawn) < number and any(left.values()):
            kind = chooser.choice([kind for kind, passages in left.items() if passages])
            passage = left[kind].pop(0 if kind != "random" else chooser.randrange(len(left[kind])))
            drawn.setdefault(passage.text, passage)
        return list(drawn.values())


def find_distractors(
    rows: Sequence[Row], embedder: Embedder, folder: Path, *, chooser: random.Random, num_hard: int = NUM_HARD
) -> list[Distractors]:
    """Return the distractors of each row, from the passages of all rows.

    Args:
        rows: The training rows.
        embedder: The model that finds by vectors.
        folder: Takes the BM25 index.
        chooser: Draws the random ones.
        num_hard: How many each retriever is asked for.
    """
    pool = list({passage.text: passage for row in rows for passage in row.passages}.values())
    questions = [row.question for row in rows]
    found = {
        "bm25": _by_words(pool, questions, folder, num_hard),
        "vectors": _by_vectors(pool, questions, embedder, num_hard),
        "random": [chooser.sample(range(len(pool)), min(num_hard, len(pool))) for _ in rows],
    }
    return [
        Distractors({kind: _usable(row, [pool[place] for place in ranked[number]]) for kind, ranked in found.items()})
        for number, row in enumerate(rows)
    ]


def _usable(row: Row, passages: Sequence[RowPassage]) -> tuple[RowPassage, ...]:
    """Leave out the row's own passages, and those that hold one of its answers."""
    own = {passage.text for passage in row.passages}
    answers = [answer.casefold() for answer in row.answers]
    return tuple(
        passage.model_copy(update={"gold": False})
        for passage in passages
        if passage.text not in own and not any(answer in f"{passage.title}\n{passage.text}".casefold() for answer in answers)
    )


def _by_words(pool: Sequence[RowPassage], questions: Sequence[str], folder: Path, k: int) -> list[list[int]]:
    index = TantivyIndex(folder)
    nothing = np.empty(0, np.float32)
    added = tuple(LoggedChunk(place, passage.title, passage.text, nothing) for place, passage in enumerate(pool, start=1))
    index.apply(LogPage(added, (), Cursor(len(added), 0)))
    return [[hit.chunk_id - 1 for hit in index.search(question, k)] for question in questions]


def _by_vectors(pool: Sequence[RowPassage], questions: Sequence[str], embedder: Embedder, k: int) -> list[list[int]]:
    passages = embedder.embed_passages([f"{passage.title}\n{passage.text}" for passage in pool])
    scores = embedder.embed_queries(questions) @ passages.T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return [[int(place) for place in row] for row in best]
