"""Which questions of a data set are trained on, and which are kept for measuring: by the passage, not by the question."""

from collections.abc import Iterable

from eval.qa.datasets import QaQuestion
from rag_server.learning.splits import content_hash, is_held_out


def split_key(question: QaQuestion) -> str:
    """Return what decides: the gold passage, so that no passage is in both; the first passage where none is gold."""
    gold = [context for context in question.contexts if context.is_gold]
    return content_hash((gold or list(question.contexts))[0].text)


def held_out(questions: Iterable[QaQuestion], share: float) -> list[QaQuestion]:
    """Return the questions that are kept for measuring."""
    return [question for question in questions if is_held_out(split_key(question), share)]


def trained_on(questions: Iterable[QaQuestion], share: float) -> list[QaQuestion]:
    """Return the questions of which no gold passage is kept for measuring."""
    return [question for question in questions if not any(is_held_out(content_hash(text), share) for text in _texts(question))]


def _texts(question: QaQuestion) -> list[str]:
    gold = [context.text for context in question.contexts if context.is_gold]
    return gold or [question.contexts[0].text]
