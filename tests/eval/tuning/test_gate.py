"""The figures of the gate, against values counted by hand."""

import pytest

from eval.qa.datasets import QaContext, QaQuestion
from eval.qa.predictions import Prediction
from eval.tuning.gate import Basis, Measurement, answer_scores, as_table, check_complete, evaluation_of
from rag_server.errors import ConfigError, RagServerError
from rag_server.model_evaluation import MeasuredModel

GOLD = QaContext("", "The answer is four.", is_gold=True)
QUESTIONS = (
    QaQuestion("marked", "What?", ("four",), (GOLD,), answerable=True),
    QaQuestion("plain", "What?", ("four",), (GOLD,), answerable=True),
    QaQuestion("shy", "What?", ("four",), (GOLD,), answerable=True),
    QaQuestion("refused", "Why?", (), (), answerable=False),
    QaQuestion("invented", "Why?", (), (), answerable=False),
)
REFUSAL = "The passages do not say."


def prediction(id_: str, answer: str, number: int | None = None) -> Prediction:
    citations = [] if number is None else [{"passage_id": 1, "number": number}]
    rag = {"passages": [{"id": 1, "text": GOLD.text}], "citations": citations}
    return Prediction.model_validate({"id": id_, "answer": answer, "rag": rag})


ANSWERS = [
    prediction("marked", "four [1]", 1),
    prediction("plain", "It is four"),
    prediction("shy", REFUSAL),
    prediction("refused", REFUSAL),
    prediction("invented", "Because."),
]


def test_answers_are_scored_by_what_each_question_asks_for() -> None:
    """Text and marks count where there is an answer, refusals where there is none, and refusing too much counts too."""
    scores = answer_scores(QUESTIONS, ANSWERS)

    assert scores["exact match"] == {"marked": 1.0, "plain": 0.0, "shy": 0.0}
    # Of "it is four", one word of three is right, and all of the right answer is there.
    assert scores["token F1"] == {"marked": 1.0, "plain": pytest.approx(2 * (1 / 3) / (1 / 3 + 1)), "shy": 0.0}
    assert scores["substring match"] == {"marked": 1.0, "plain": 1.0, "shy": 0.0}
    assert scores["mark precision"] == scores["mark share"] == {"marked": 1.0, "plain": 0.0, "shy": 0.0}
    assert scores["refusal"] == {"refused": 1.0, "invented": 0.0}
    assert scores["no refusal"] == {"marked": 1.0, "plain": 1.0, "shy": 0.0}


def test_means_and_p_values_are_those_of_the_pairs() -> None:
    """Four questions of which three are better, none worse: of the 8 assignments of their signs, two are as extreme."""
    new = {"token F1": dict.fromkeys("abcd", 1.0)}
    baseline = {"token F1": {"a": 0.0, "b": 0.0, "c": 0.0, "d": 1.0}}
    models = {"new": MeasuredModel(name="new", fingerprint="f"), "baseline": MeasuredModel(name="old", fingerprint=None)}
    basis = Basis("some", "hash", 0.3, "command")
    evaluation = evaluation_of("answerer", Measurement(new, baseline), basis=basis, **models)

    assert (evaluation.decisive.new, evaluation.decisive.baseline, evaluation.decisive.n) == (1.0, 0.25, 4)
    assert evaluation.decisive.p == pytest.approx(2 / 8)
    assert as_table(evaluation).rows == (("token F1", 0.25, 1.0, evaluation.decisive.p, 4),)
    with pytest.raises(ConfigError, match="no question for which token F1 is defined"):
        evaluation_of("answerer", Measurement({}, {}), basis=basis, **models)


def test_spoilt_measurement_is_refused() -> None:
    """One failed question is enough, and the first few are named."""
    check_complete([], "model")
    with pytest.raises(RagServerError, match=r"model failed at 4 questions.*a; b; c$"):
        check_complete(["a", "b", "c", "d"], "model")
