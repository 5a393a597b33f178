"""Passages beside the right one: found as a search would find them, and never holding an answer."""

import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from rag_server.training.distractors import Distractors, find_distractors
from rag_server.training.rows import Row, RowPassage
from rag_server.types import Vectors

WORDS = ("ferry", "bus", "train", "plane")


def embedded(texts: Sequence[str]) -> Vectors:
    rows = np.array([[text.lower().count(word) + 0.01 for word in WORDS] for text in texts], dtype=np.float32)
    unit: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


EMBEDDER = SimpleNamespace(embed_queries=embedded, embed_passages=embedded)


def row(name: str, text: str, answer: str) -> Row:
    passage = RowPassage(title=name, text=text, gold=True)
    return Row(id=name, question=f"When does the {name} leave?", answers=(answer,), passages=(passage,))


ROWS = [
    row("ferry", "The ferry leaves at seven.", "seven"),
    row("bus", "The bus leaves at eight, after the ferry.", "eight"),
    row("train", "The train leaves at SEVEN too.", "seven"),
    row("plane", "A plane lands.", "lands"),
]


def test_they_are_the_nearest_without_an_answer(tmp_path: Path) -> None:
    """Each kind finds what it would find in a search; the own passage and those that hold the answer are left out."""
    found = find_distractors(ROWS, EMBEDDER, tmp_path / "bm25", chooser=random.Random(0))
    of_ferry = {kind: [passage.title for passage in passages] for kind, passages in found[0].by_kind.items()}

    assert of_ferry["bm25"] == ["bus"]
    assert of_ferry["vectors"][0] == "bus"
    assert set(of_ferry["random"]) <= {"bus", "plane"}
    assert not any(passage.gold for passages in found[0].by_kind.values() for passage in passages)


def test_drawing_mixes_the_kinds_and_repeats_nothing() -> None:
    """Of two kinds with a passage in common each text comes once, and both kinds have their turn."""
    one, two, three = (RowPassage(text=text) for text in ("one", "two", "three"))
    distractors = Distractors({"bm25": (one, two), "vectors": (two, three)})
    drawn = [[passage.text for passage in distractors.draw(2, random.Random(seed))] for seed in range(20)]

    assert all(len(set(texts)) == 2 for texts in drawn)
    assert {"one", "two", "three"} == {text for texts in drawn for text in texts}
    assert sorted(passage.text for passage in distractors.draw(9, random.Random(0))) == ["one", "three", "two"]
