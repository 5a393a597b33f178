"""What a new model and the one that it would replace came to on the same questions, as an evaluation for the registry."""

import hashlib
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.qa.datasets import QaQuestion
from eval.qa.grading import Scores, check_same_questions, score
from eval.qa.measures import refuses
from eval.qa.predictions import Prediction
from eval.ranking.measures import MAP, MRR_10, NDCG_5, NDCG_10
from eval.report import Table
from eval.significance import paired_p_value
from rag_server.errors import ConfigError, RagServerError
from rag_server.model_evaluation import Comparison, MeasuredModel, ModelEvaluation, ModelKind

ANSWER_MEASURES = ("exact match", "token F1", "substring match", "mark precision", "mark recall")
RANKING_MEASURES = (NDCG_10, NDCG_5, MAP, MRR_10)
# Long answers are flattered by substring match, and exact match sees no small gains.
DECIDING: Mapping[ModelKind, str] = {
    "answerer": "token F1",
    "ranker": NDCG_10,
    "cross_encoder": NDCG_10,
    "embedder": NDCG_10,
}
MAX_FAULTS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Measurement:
    """Both models' scores of the same questions: measure, question id, score."""

    new: Scores
    baseline: Scores


@dataclass(frozen=True, slots=True)
class Basis:
    """What both were measured on, and by which command; `held_out` is the share that was kept from training, None all."""

    dataset: str
    dataset_hash: str
    held_out: float | None
    command: str


def answer_scores(questions: Sequence[QaQuestion], predictions: Sequence[Prediction]) -> dict[str, dict[str, float]]:
    """Return the scores of answers, of each question for which a measure is defined.

    "mark share" counts the answers to answerable questions that carry a mark at all, "refusal" the unanswerable questions
    that are refused, "no refusal" the answerable ones that are not.

    Raises:
        ConfigError: The predictions are of other questions.
    """
    check_same_questions(questions, predictions, "the predictions")
    graded = score(questions, predictions)
    of_question = {prediction.id: prediction for prediction in predictions}
    answerable = [question.id for question in questions if question.answerable]
    others = [question.id for question in questions if not question.answerable]
    scores = {name: graded[name] for name in ANSWER_MEASURES if name in graded}
    scores["mark share"] = {id_: float(_has_mark(of_question[id_])) for id_ in answerable}
    scores["refusal"] = {id_: float(refuses(of_question[id_].answer or "")) for id_ in others}
    scores["no refusal"] = {id_: float(not refuses(of_question[id_].answer or "")) for id_ in answerable}
    return {name: values for name, values in scores.items() if values}


def evaluation_of(
    kind: ModelKind, measurement: Measurement, *, new: MeasuredModel, baseline: MeasuredModel, basis: Basis
) -> ModelEvaluation:
    """Return the evaluation, with a paired p-value for each measure that both have.

    Raises:
        ConfigError: The deciding measure is defined for none of the questions.
    """
    if DECIDING[kind] not in measurement.new:
        raise ConfigError(f"{basis.dataset} has no question for which {DECIDING[kind]} is defined, which decides: name another")
    comparisons = [
        Comparison(
            measure=name,
            baseline=statistics.fmean(measurement.baseline[name].values()),
            new=statistics.fmean(values.values()),
            p=paired_p_value(values, measurement.baseline[name]),
            n=len(values),
        )
        for name, values in measurement.new.items()
        if name in measurement.baseline
    ]
    return ModelEvaluation(
        kind=kind,
        new=new,
        baseline=baseline,
        dataset=basis.dataset,
        dataset_hash=basis.dataset_hash,
        held_out=basis.held_out,
        command=basis.command,
        comparisons=tuple(comparisons),
        deciding=DECIDING[kind],
    )


def as_table(evaluation: ModelEvaluation) -> Table:
    """Return the comparisons as a table."""
    columns = ("measure", evaluation.baseline.name, evaluation.new.name, "p", "n")
    rows = tuple((found.measure, found.baseline, found.new, found.p, found.n) for found in evaluation.comparisons)
    title = f"{evaluation.kind} on {evaluation.dataset}; {evaluation.deciding} decides"
    return Table(title, columns, rows)


def hash_of(data: object) -> str:
    """Return a SHA-256 of questions and what belongs to them."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()


def check_complete(faults: Sequence[str], name: str) -> None:
    """Refuse a measurement that something other than the model has spoilt.

    Raises:
        RagServerError: A question failed.
    """
    if faults:
        shown = "; ".join(faults[:MAX_FAULTS_SHOWN])
        raise RagServerError(f"{name} failed at {len(faults)} questions, so nothing is compared: {shown}")


def _has_mark(prediction: Prediction) -> bool:
    return prediction.rag is not None and any(citation.number is not None for citation in prediction.rag.citations)
