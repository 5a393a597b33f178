"""Whole runs on a small data set, against the scripted engine."""

import gzip
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from eval.qa.datasets import QaContext
from eval.qa.given_passages import AskedQuestion, answer
from eval.run_qa import main
from rag_server import factory
from rag_server.config import load_settings
from rag_server.protocols import Engine

SUBJECTS = ("cats", "ketches", "teas", "stars")
Scripted = Callable[..., AbstractContextManager[str]]


def row(number: int, subject: str) -> dict[str, object]:
    gold = {"title": subject, "text": f"About them. The number of {subject} is {100 + number}.", "is_gold": True}
    others = [{"title": "", "text": f"Nothing of note {number}/{other}.", "is_gold": False} for other in range(3)]
    answers = [str(100 + number)]
    return {"id": subject, "question": f"What is the number of {subject}?", "answers": answers, "contexts": [*others, gold]}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """hotpotqa with four questions, three distractors and one gold passage each."""
    path = tmp_path / "data" / "hotpotqa" / "hotpotqa_train_100.jsonl.gz"
    path.parent.mkdir(parents=True)
    rows = [row(number, subject) for number, subject in enumerate(SUBJECTS)]
    path.write_bytes(gzip.compress("".join(f"{json.dumps(row)}\n" for row in rows).encode()))
    monkeypatch.setenv("RAG_EVAL_DATA", str(tmp_path / "data"))
    return tmp_path


def measures(folder: Path) -> dict[str, dict[str, float]]:
    return {row["measure"]: row for row in json.loads((folder / "measures.json").read_text())["table"]}


def predictions(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def run(monkeypatch: pytest.MonkeyPatch, base_url: str, data: Path, *arguments: str) -> int:
    monkeypatch.setenv("RAG_ENGINE__BASE_URL", base_url)
    return main(["--dataset", "hotpotqa", "--passages", "4", "--out", str(data / "out"), *arguments])


def test_run_asks_grades_and_writes(
    data: Path, scripted_engine: Scripted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The scripted engine quotes the sentence that answers and marks its passage: all measures but the exact ones are full."""
    with scripted_engine() as base_url:
        status = run(monkeypatch, base_url, data, "--questions", "3")

    folder = data / "out" / "qa-hotpotqa-sides"
    values = {name: row["value"] for name, row in measures(folder).items()}
    # Of the six words said, "number of cats is 100" without the article, one is the right answer's only one.
    assert values["token F1"] == pytest.approx(2 * 1 / (5 + 1))
    assert values["exact match"] == 0.0
    full = ["substring match", "mark precision", "mark recall", "citation precision", "citation recall", "quote literalness"]
    assert {values[name] for name in full} == {1.0}
    assert (values["failed"], values["refusal recall"]) == (0, None)
    assert values["output tokens per answer"] == 7
    assert status == 0
    assert "substring match" in capsys.readouterr().out
    assert "substring match" in (folder / "report.md").read_text()
    assert {answer["id"] for answer in predictions(folder)} <= set(SUBJECTS)
    assert len(predictions(folder)) == 3


def test_failures_count_as_zero_and_are_listed(
    data: Path, scripted_engine: Scripted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each question that the engine fails at is named, in the report too, and scores zero; the exit status says so."""
    with scripted_engine(context_length=60) as base_url:
        # A conversation that does not fit even without passages.
        status = run(monkeypatch, base_url, data, "--answer-tokens", "50")

    folder = data / "out" / "qa-hotpotqa-sides"
    assert status == 1
    assert measures(folder)["failed"]["value"] == 4
    assert {measures(folder)[name]["value"] for name in ("exact match", "token F1", "substring match")} == {0.0}
    assert measures(folder)["substring match"]["n"] == 4
    shown = capsys.readouterr().err
    for subject in SUBJECTS:
        assert f"failed: {subject}: context_length_exceeded" in shown
        assert f"failed: {subject}: context_length_exceeded" in (folder / "report.md").read_text()


def test_own_predictions_grade_alike(data: Path, scripted_engine: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was written is graded to the same table without an engine."""
    with scripted_engine() as base_url:
        run(monkeypatch, base_url, data)
    monkeypatch.delenv("RAG_ENGINE__BASE_URL")
    folder = data / "out" / "qa-hotpotqa-sides"
    arguments = ["--dataset", "hotpotqa", "--passages", "4", "--out", str(data / "out")]

    status = main([*arguments, "--predictions", str(folder / "predictions.jsonl")])

    assert status == 0
    assert measures(data / "out" / "qa-hotpotqa-predictions") == measures(folder)


def test_answers_of_others_are_graded(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ids and answers suffice; a baseline is compared question by question; other questions are refused."""
    for name, answers in {"new": ["100", "101", "102", "103"], "old": ["100", "no", "no", "no"]}.items():
        rows = [{"id": subject, "answer": text} for subject, text in zip(SUBJECTS, answers, strict=True)]
        (data / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (data / "other.jsonl").write_text('{"id": "cats", "answer": "100"}\n')
    arguments = [
        "--dataset",
        "hotpotqa",
        "--passages",
        "4",
        "--out",
        str(data / "out"),
        "--predictions",
        str(data / "new.jsonl"),
    ]

    assert main([*arguments, "--baseline", str(data / "old.jsonl")]) == 0
    exact = measures(data / "out" / "qa-hotpotqa-new")["exact match"]
    # Three of four questions differ, all for the better: of the 8 assignments of their signs, 2 are as extreme.
    assert (exact["value"], exact["p"]) == (1.0, pytest.approx(2 / 8))
    assert main([*arguments, "--baseline", str(data / "other.jsonl")]) == 1
    assert "over different queries" in capsys.readouterr().err


async def test_served_flow_places_the_passages(scripted_engine: Scripted) -> None:
    """The answer's passages are in the order of the prompt, the rank with each; quotes are literal, marks the prompt's."""
    texts = ["First of all.", "The number of cats is 100.", "Third.", "Fourth."]
    ranked = tuple(QaContext("", text, is_gold=False) for text in texts)
    with scripted_engine() as base_url:
        engine: Engine = factory.build_engine(load_settings({"RAG_ENGINE__BASE_URL": base_url}), None)
        asked = AskedQuestion("q", "What is the number of cats?", ranked, "sides")
        prediction = await answer(engine, asked, answer_tokens=50)
        await engine.aclose()

    assert prediction.rag is not None
    # Ranks 1, 3, 4, 2: the best at both ends.
    assert [passage.id for passage in prediction.rag.passages] == [1, 3, 4, 2]
    assert prediction.answer == "The number of cats is 100. [4]"
    (citation,) = prediction.rag.citations
    assert (citation.passage_id, citation.number, citation.quote) == (2, 4, "The number of cats is 100.")


async def test_answer_is_cut_at_its_limit(scripted_engine: Scripted) -> None:
    """No more tokens are asked for than allowed."""
    with scripted_engine(answer="one two three four") as base_url:
        engine: Engine = factory.build_engine(load_settings({"RAG_ENGINE__BASE_URL": base_url}), None)
        prediction = await answer(engine, AskedQuestion("q", "What?", (), "none"), answer_tokens=2)
        await engine.aclose()

    assert (prediction.answer, prediction.output_tokens) == ("one two", 2)
