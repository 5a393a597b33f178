"""Grading by a worked example, and what is refused."""

from pathlib import Path

import pytest

from eval.qa.datasets import QaContext, QaQuestion
from eval.qa.grading import Share, compare, costs, count_shares, interval_of, score
from eval.qa.predictions import Prediction, read_predictions, write_predictions
from eval.significance import Interval
from rag_server.errors import ConfigError

GOLD = (QaContext("", "Cats sleep. They sleep for sixteen hours.", True), QaContext("", "Dogs bark.", False))
QUESTIONS = [
    QaQuestion("a", "How long do cats sleep?", ("sixteen hours",), GOLD, answerable=True),
    QaQuestion("b", "Who barks?", ("dogs",), (QaContext("", "Dogs bark.", True),), answerable=True),
    QaQuestion("c", "Who flies?", (), (QaContext("", "Dogs bark.", False),), answerable=False),
    QaQuestion("d", "Who swims?", (), (QaContext("", "Dogs bark.", False),), answerable=False),
]
SOURCES = {
    "passages": [{"id": 7, "text": "They sleep for sixteen hours."}, {"id": 8, "text": "Dogs bark."}],
    "citations": [
        {"passage_id": 7, "number": 1, "quote": "sixteen hours"},
        {"passage_id": 8, "number": None, "quote": "Dogs barked."},
        {"passage_id": 8, "number": 2, "quote": None},
        {"passage_id": 99, "number": 3, "quote": None},
    ],
}
PREDICTIONS = [
    Prediction.model_validate({"id": "a", "answer": "Sixteen hours", "rag": SOURCES, "seconds": 2.0, "output_tokens": 4}),
    Prediction(id="b", error="engine_unavailable: it is down", seconds=9.0),
    Prediction(id="c", answer="The passages do not say.", seconds=4.0),
    Prediction(id="d", answer="Fish.", seconds=6.0),
]


def test_scores_are_the_worked_example() -> None:
    """Question b failed and scores 0 in everything; unanswerable questions have no score.

    Of the four citations of a, one is of the gold passage, a chunk of which it was given; three are marks.
    """
    scores = score(QUESTIONS, PREDICTIONS)

    assert scores == {
        "exact match": {"a": 1.0, "b": 0.0},
        "token F1": {"a": 1.0, "b": 0.0},
        "substring match": {"a": 1.0, "b": 0.0},
        "mark precision": {"a": pytest.approx(1 / 3), "b": 0.0},
        "mark recall": {"a": 1.0, "b": 0.0},
        "citation precision": {"a": pytest.approx(1 / 4), "b": 0.0},
        "citation recall": {"a": 1.0, "b": 0.0},
    }


def test_shares_are_the_worked_example() -> None:
    """One of two quotes is literal; the one refusal was right; one of two unanswerable questions was refused."""
    assert count_shares(QUESTIONS, PREDICTIONS) == {
        "quote literalness": Share(1, 2),
        "refusal precision": Share(1, 1),
        "refusal recall": Share(1, 2),
    }


def test_refusing_an_answerable_question_is_wrong() -> None:
    """It lowers refusal precision, and a failed unanswerable question lowers recall."""
    refusal = Prediction(id="a", answer="There is no information.")
    failure = Prediction(id="c", error="it is down")

    shares = count_shares([QUESTIONS[0], QUESTIONS[2]], [refusal, failure])

    assert shares["refusal precision"] == Share(0, 1)
    assert shares["refusal recall"] == Share(0, 1)


def test_costs_are_of_answers() -> None:
    """What a failed question took is no answer's cost; what no answer tells is left out."""
    assert costs(PREDICTIONS) == {"seconds per answer": (4.0, 3), "output tokens per answer": (4.0, 1)}


def test_without_sources_there_are_no_citation_measures() -> None:
    """Answers of a program that does not cite are graded by their text alone."""
    plain = [prediction.model_copy(update={"rag": None}) for prediction in PREDICTIONS]

    assert list(score(QUESTIONS, plain)) == ["exact match", "token F1", "substring match"]


def test_other_questions_are_refused() -> None:
    """Answers to fewer or to other questions are not averaged, nor compared."""
    with pytest.raises(ConfigError, match=r"1 \(b\) only in the questions asked"):
        score(QUESTIONS, [PREDICTIONS[0], *PREDICTIONS[2:]])
    with pytest.raises(ConfigError, match=r"1 \(x\) only in the predictions"):
        score(QUESTIONS, [*PREDICTIONS, Prediction(id="x", answer="")])
    with pytest.raises(ConfigError, match="different queries"):
        compare({"exact match": {"a": 1.0, "b": 0.0}}, {"exact match": {"a": 1.0}})


def test_comparison_is_paired() -> None:
    """Two questions of two swapped: of the four assignments of signs, two are as extreme."""
    a, b = {"q1": 1.0, "q2": 1.0}, {"q1": 0.0, "q2": 0.0}

    assert compare({"exact match": a, "other": a}, {"exact match": b}) == {"exact match": pytest.approx(2 / 4)}


def test_interval_is_of_the_kind_of_score() -> None:
    """Shares get Wilson's interval, which is never without width; for other means the questions are drawn anew."""
    # 0 of 4, z = 1.96: the upper bound is z^2 / (4 + z^2).
    assert interval_of([0.0] * 4) == Interval(0.0, 0.0, pytest.approx(1.96**2 / (4 + 1.96**2), abs=1e-4))
    drawn = interval_of([0.5, 0.75])
    assert (drawn.mean, drawn.low, drawn.high) == (0.625, 0.5, 0.75)


def test_predictions_are_read_as_written(tmp_path: Path) -> None:
    """Nothing of the API's objects is lost on the way."""
    path = tmp_path / "new" / "predictions.jsonl"
    sources = {
        "passages": [{"id": 1, "text": "t", "title": "T\u2028"}],
        "citations": [],
        "num_dropped": 2,
        "timings_ms": {"cite": 1},
    }
    predictions = [*PREDICTIONS, Prediction.model_validate({"id": "e", "answer": "", "rag": sources})]

    write_predictions(path, predictions)

    assert read_predictions(path) == predictions
    assert read_predictions(path)[-1].model_dump()["rag"]["timings_ms"] == {"cite": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": "a"}\n{"answer": "x"}\n', r"line 2: id: Field required; correct the row"),
        ('{"id": "a"}\n{"id": "a"}\n', r"line 2: a second answer to question a"),
        ("prose\n", r"line 1: .*Invalid JSON"),
        (None, r"cannot be read .*No such file"),
    ],
)
def test_malformed_predictions_are_named(tmp_path: Path, text: str | None, message: str) -> None:
    """The message names the line."""
    path = tmp_path / "predictions.jsonl"
    if text is not None:
        path.write_text(text)

    with pytest.raises(ConfigError, match=message):
        read_predictions(path)
