"""Small data sets in the layout of the real ones."""

import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from eval.qa.datasets import QaContext, QaDataset, QaQuestion, distractors, given_contexts, load_questions, sample_questions
from rag_server.errors import ConfigError


def write(path: Path, rows: Sequence[object]) -> None:
    path.parent.mkdir(exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAG_EVAL_DATA", str(tmp_path))
    return tmp_path


def question(number: int, *contexts: QaContext) -> QaQuestion:
    return QaQuestion(f"q{number}", f"Question {number}?", (f"answer {number}",), contexts, answerable=True)


def passage(text: str, *, is_gold: bool = False) -> QaContext:
    return QaContext("title", text, is_gold)


def test_marked_gold_passages_are_kept(folder: Path) -> None:
    """Where the rows mark the gold passages, the marks are read; passages of several questions are in the pool once."""
    contexts = [{"title": "A", "text": "one", "is_gold": False}, {"title": "B", "text": "two", "is_gold": True}]
    row = {"question": "Which?", "answers": ["two"], "contexts": contexts}
    write(folder / "hotpotqa" / "hotpotqa_train_100.jsonl.gz", [{"id": "x", **row}, {"id": "y", **row}])

    dataset = load_questions("hotpotqa")

    expected = QaQuestion("x", "Which?", ("two",), (QaContext("A", "one", False), QaContext("B", "two", True)), True)
    assert dataset.questions[0] == expected
    assert dataset.pool == (QaContext("A", "one", False), QaContext("B", "two", False))


def test_sole_passage_of_an_answerable_question_is_gold(folder: Path) -> None:
    """clapnq marks no gold: an answerable question's passage is, an unanswerable one's is not."""
    for kind, answers in {"answerable": ["yes"], "unanswerable": []}.items():
        row = {"id": kind, "question": "?", "answers": answers, "contexts": [{"title": "T", "text": kind}]}
        write(folder / "clapnq" / f"clapnq_dev_{kind}.jsonl.gz", [row])

    questions = load_questions("clapnq").questions

    assert [(question.answerable, question.contexts[0].is_gold) for question in questions] == [(True, True), (False, False)]
    assert load_questions("clapnq-unanswerable").questions == questions[1:]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_xquad_question_has_its_paragraph(folder: Path, suffix: str) -> None:
    """A question refers to its paragraph, which is gold; the corpus is the pool. Files may be compressed."""
    corpus = [{"_id": "0-0", "title": "T", "text": "first"}, {"_id": "0-1", "title": "T", "text": "second"}]
    write(folder / "xquad" / f"corpus_ar{suffix}", corpus)
    write(folder / "xquad" / f"xquad_ar{suffix}", [{"id": "q", "question": "?", "answers": ["s"], "paragraph": "0-1"}])

    dataset = load_questions("xquad-ar")

    assert dataset.questions[0].contexts == (QaContext("T", "second", True),)
    assert dataset.pool == (QaContext("T", "first", False), QaContext("T", "second", False))


def test_what_is_missing_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is missing, a malformed row, an unknown name and an unset variable each say what to do."""
    with pytest.raises(ConfigError, match=r"2wiki_164\.jsonl\.gz is missing; RAG_EVAL_DATA"):
        load_questions("2wikimultihopqa")
    write(folder / "rgb" / "en_fact.jsonl.gz", [{"id": "x", "question": "?", "answers": [], "contexts": []}, {"id": "y"}])
    with pytest.raises(ConfigError, match=r"en_fact\.jsonl\.gz line 2: KeyError: 'answers'; correct the row"):
        load_questions("rgb-en_fact")
    with pytest.raises(ConfigError, match="no question-answering set 'squad'; known are xquad-en"):
        load_questions("squad")
    monkeypatch.delenv("RAG_EVAL_DATA")
    with pytest.raises(ConfigError, match="RAG_EVAL_DATA is not set"):
        load_questions("litm-20docs")


def test_sample_is_of_the_seed() -> None:
    """The same seed draws the same questions, each once; more than there are is all."""
    dataset = QaDataset("d", tuple(map(question, range(50))), ())

    drawn = sample_questions(dataset, 10, seed=1)

    assert drawn == sample_questions(dataset, 10, seed=1)
    assert len({question.id for question in drawn}) == 10
    assert drawn != sample_questions(dataset, 10, seed=2)
    assert set(sample_questions(dataset, 99, seed=1)) == set(dataset.questions)


def test_given_passages_hold_the_gold_and_then_the_questions_own() -> None:
    """Gold passages are never left out for others, the question's own come before the pool's, in an order of the seed."""
    own = (passage("own 1"), passage("own 2"), passage("gold 1", is_gold=True), passage("gold 2", is_gold=True))
    asked = question(1, *own)
    dataset = QaDataset("d", (asked,), (*map(passage, ["own 1", "own 2", "gold 1", "gold 2", "other 1", "other 2"]),))

    def given(number: int, seed: int = 0) -> list[str]:
        return [context.text for context in given_contexts(dataset, asked, number, seed)]

    assert sorted(given(3)) == ["gold 1", "gold 2", "own 1"]
    assert sorted(given(6)) == ["gold 1", "gold 2", "other 1", "other 2", "own 1", "own 2"]
    assert given(6) == given(6)
    assert len({tuple(given(4, seed)) for seed in range(20)}) > 5
    with pytest.raises(ConfigError, match="ask for fewer"):
        given(7)


def test_distractors_do_not_answer() -> None:
    """A passage that holds an answer of the question is no distractor."""
    asked = question(1, passage("gold", is_gold=True))
    dataset = QaDataset("d", (asked,), (passage("Answer 1, they say."), passage("nothing"), passage("gold")))

    assert distractors(dataset, asked, 1, random.Random(0)) == [passage("nothing")]
    with pytest.raises(ConfigError):
        distractors(dataset, asked, 2, random.Random(0))
