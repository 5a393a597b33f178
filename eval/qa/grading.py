"""Grades the answers to a set of questions: a score per question, shares over all answers, and intervals for both."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from eval.qa.datasets import QaQuestion
from eval.qa.measures import citation_precision, citation_recall, exact_match, refuses, substring_match, token_f1
from eval.qa.predictions import Prediction
from eval.significance import Interval, bootstrap_interval, check_same_queries, paired_p_value, wilson_interval

# Measure -> question id -> score from 0 to 1.
Scores = Mapping[str, Mapping[str, float]]

TEXT_MEASURES = {"exact match": exact_match, "token F1": token_f1, "substring match": substring_match}
CITATION_MEASURES = {"precision": citation_precision, "recall": citation_recall}


@dataclass(frozen=True, slots=True)
class Share:
    """How many of so many: quotes, refusals or questions."""

    successes: int
    trials: int


def check_same_questions(questions: Sequence[QaQuestion], predictions: Sequence[Prediction], name: str) -> None:
    """Refuse predictions for other questions than these.

    Raises:
        ConfigError: A question has no prediction, or a prediction no question.
    """
    asked, predicted = {question.id for question in questions}, {prediction.id for prediction in predictions}
    check_same_queries(asked, predicted, names=("the questions asked (--questions, --seed)", name))


def score(questions: Sequence[QaQuestion], predictions: Sequence[Prediction]) -> dict[str, dict[str, float]]:
    """Return each measure's score of each question that it is defined for; a failed question scores 0.

    The measures of the text are defined for answerable questions; those of citations for answerable questions with a gold
    passage, if any of the answers comes with its sources. "mark" counts the marks [n] that the model wrote, "citation" all
    that the answer carries: the marks, and the sentences without one that were matched by their words.

    Raises:
        ConfigError: The predictions are of other questions.
    """
    check_same_questions(questions, predictions, "the predictions")
    of_question = {prediction.id: prediction for prediction in predictions}
    answerable = [question for question in questions if question.answerable]
    scores = {
        name: {question.id: _text_score(measure, question, of_question[question.id]) for question in answerable}
        for name, measure in TEXT_MEASURES.items()
    }
    if any(prediction.rag is not None for prediction in predictions):
        grounded = [question for question in answerable if _gold(question)]
        for kind, marks_only in (("mark", True), ("citation", False)):
            for name, measure in CITATION_MEASURES.items():
                scores[f"{kind} {name}"] = {
                    question.id: measure(_cited(of_question[question.id], marks_only=marks_only), _gold(question))
                    for question in grounded
                }
    return {name: values for name, values in scores.items() if values}


def count_shares(questions: Sequence[QaQuestion], predictions: Sequence[Prediction]) -> dict[str, Share]:
    """Return the shares that are taken over all answers together.

    quote literalness: of all quotes, those that stand literally in their passage. refusal precision: of all answers that
    refuse, those to unanswerable questions. refusal recall: of all unanswerable questions, those refused; a failed question
    refuses nothing.
    """
    quotes = [
        (citation.quote, prediction.rag.text_of(citation.passage_id))
        for prediction in predictions
        if prediction.rag is not None
        for citation in prediction.rag.citations
        if citation.quote is not None
    ]
    unanswerable = {question.id for question in questions if not question.answerable}
    refused = {prediction.id for prediction in predictions if refuses(prediction.answer or "")}
    return {
        "quote literalness": Share(sum(quote in text for quote, text in quotes), len(quotes)),
        "refusal precision": Share(len(refused & unanswerable), len(refused)),
        "refusal recall": Share(len(refused & unanswerable), len(unanswerable)),
    }


def costs(predictions: Sequence[Prediction]) -> dict[str, tuple[float, int]]:
    """Return the mean of what each answer took, over the answers that tell it, and their number."""
    answered = [prediction for prediction in predictions if not prediction.failed]
    told: dict[str, list[float | None]] = {
        "seconds per answer": [prediction.seconds for prediction in answered],
        "prompt tokens per answer": [prediction.prompt_tokens for prediction in answered],
        "output tokens per answer": [prediction.output_tokens for prediction in answered],
    }
    known = {name: [value for value in values if value is not None] for name, values in told.items()}
    return {name: (statistics.fmean(values), len(values)) for name, values in known.items() if values}


def interval_of(values: Sequence[float]) -> Interval:
    """Return the mean with its interval: Wilson's where all scores are 0 or 1, else by bootstrap over the questions."""
    if all(value in (0.0, 1.0) for value in values):
        return wilson_interval(round(sum(values)), len(values))
    return bootstrap_interval(values)


def compare(scores: Scores, baseline: Scores) -> dict[str, float]:
    """Return for each measure of both the paired p-value of the difference of their means.

    Raises:
        ConfigError: They are over different questions.
    """
    return {name: paired_p_value(scores[name], baseline[name]) for name in scores if name in baseline}


def _text_score(measure: Callable[[str, Sequence[str]], float], question: QaQuestion, prediction: Prediction) -> float:
    return 0.0 if prediction.answer is None else measure(prediction.answer, question.answers)


def _gold(question: QaQuestion) -> list[str]:
    return [context.text for context in question.contexts if context.is_gold]


def _cited(prediction: Prediction, *, marks_only: bool) -> list[str]:
    """Return the text of the passage of each citation; none of a failed question."""
    if prediction.failed or prediction.rag is None:
        return []
    return [
        prediction.rag.text_of(citation.passage_id)
        for citation in prediction.rag.citations
        if citation.number is not None or not marks_only
    ]
