"""Conversations made of questions by a rule, and what is found for their last turn in each way."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from eval.qa.datasets import QaContext, QaDataset, QaQuestion
from eval.ranking.follow_ups import FollowUp, follow_ups
from eval.run_rewriting import CONVERSATION, LAST, REWRITTEN, STANDALONE, Searched, cost_table, main, quality_table
from eval.significance import wilson_interval
from rag_server.config import Settings

Scripted = Callable[..., AbstractContextManager[str]]
WHITEHEAD = "Alfred North Whitehead wrote a book and was born in Ramsgate in Kent."


def questions(*texts: str, paragraph: str = WHITEHEAD) -> list[QaQuestion]:
    context = QaContext("title", paragraph, is_gold=True)
    return [
        QaQuestion(f"{paragraph[:3]}{n}", text, ("an answer",), (context,), answerable=True) for n, text in enumerate(texts)
    ]


def made(*texts: str) -> list[str]:
    return [one.question for one in follow_ups(QaDataset("x", tuple(questions(*texts)), ()))]


def test_shared_name_becomes_a_pronoun() -> None:
    """The worked examples of the rule."""
    assert made("Who is Alfred Whitehead?", "Where was Alfred Whitehead born?") == ["Where was it born?"]
    assert made("What is Tesla's law?", "When was Tesla's law passed?") == ["When was its law passed?"]
    assert made("What did the House of Lords say?", "Who sits in the House of Lords?") == ["Who sits in it?"]
    assert made("Who is Tesla?", "Where is Edison?") == []
    assert made("Tesla is who?", "Tesla was born where?") == []
    assert made("Only Tesla?") == []


def test_turns_are_neighbours_of_one_paragraph() -> None:
    """The first turn is the question before, of the same paragraph; what was there before the pronoun is kept."""
    both = (*questions("Who is Ann?", "Where does Ann live?"), *questions("Is Ann old?", paragraph="Another."))
    (one,) = follow_ups(QaDataset("x", both, ()))

    assert one == FollowUp("Alf1", "Who is Ann?", "an answer", "Where does it live?", "Where does Ann live?", WHITEHEAD)


def test_tables_are_the_worked_example() -> None:
    """nDCG of rank 1 is 1, of rank 3 it is 1 / log2(4); five places count as a hit."""
    relevant = {"a": "p1", "b": "p2"}
    found = {
        LAST: {"a": Searched("x", ("p1", "p2")), "b": Searched("x", ("p9", "p8", "p2"))},
        REWRITTEN: {"a": Searched("x", ("p1",), 1.0), "b": Searched("x", ("p9",), 3.0, "slow")},
    }
    last, rewritten = quality_table(found, relevant).rows
    half, full = wilson_interval(1, 2), wilson_interval(2, 2)

    assert (last[0], last[1], last[4], last[6:]) == (LAST, 0.75, None, (1.0, full.low, full.high))
    assert (rewritten[1], rewritten[5], rewritten[6:]) == (0.5, 0.5, (0.5, half.low, half.high))
    assert cost_table(list(found[REWRITTEN].values())).rows == (("seconds", 2.0), ("fallbacks", 1), ("fallback: slow", 1))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two paragraphs with two questions each, in the layout of xquad."""
    folder = tmp_path / "eval" / "xquad"
    folder.mkdir(parents=True)
    paragraphs = {"0-0": WHITEHEAD, "1-0": "It was a book that he wrote: where and when is not known of it."}
    corpus = [{"_id": id_, "title": "t", "text": text} for id_, text in paragraphs.items()]
    asked = [
        {"id": f"q{n}", "question": text, "answers": ["Kent"], "paragraph": "0-0"}
        for n, text in enumerate(["Who is Alfred Whitehead?", "Where was the book of Alfred Whitehead known?"])
    ]
    for name, rows in {"corpus_en.jsonl": corpus, "xquad_en.jsonl": asked}.items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("RAG_EVAL_DATA", str(tmp_path / "eval"))
    return tmp_path


def test_whole_run_prints_and_writes(
    data: Path,
    settings: Settings,
    scripted_engine: Scripted,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The engine's rewriting names what the pronoun hides, and finds the paragraph first that the pronoun finds second."""
    rewritten = "Where was Alfred Whitehead known?"
    with scripted_engine(answer=rewritten) as base_url:
        monkeypatch.setenv("RAG_ENGINE__BASE_URL", base_url)
        monkeypatch.setenv("RAG_RETRIEVE__KIND", "lexical")
        status = main(["--out", str(data / "out")])

    (row,) = [json.loads(line) for line in (data / "out" / "rewriting" / "conversations.jsonl").read_text().splitlines()]
    shown = capsys.readouterr().out
    assert status == 0
    assert row[LAST]["text"] == row["question"] == "Where was the book of it known?"
    assert row[CONVERSATION]["text"] == "Who is Alfred Whitehead?\nKent\nWhere was the book of it known?"
    assert row[STANDALONE]["text"] == "Where was the book of Alfred Whitehead known?"
    assert (row[REWRITTEN]["text"], row[REWRITTEN]["fallback"]) == (rewritten, None)
    assert row["relevant"] == "p0"
    assert row[REWRITTEN]["found"][0] == "p0"
    assert row[LAST]["found"][0] == "p1"
    assert "whole conversation" in shown
    assert (data / "out" / "rewriting" / "report.md").is_file()


def test_engine_can_be_left_out(data: Path, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """Without one the other ways are compared."""
    assert main(["--out", str(data / "out"), "--without-engine"]) == 0
    assert REWRITTEN not in capsys.readouterr().out
