"""Plans the position study: for each condition, the passages of a question in their order, with the gold one at its place."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from eval.qa.datasets import QaContext, QaDataset, QaQuestion, distractors
from eval.qa.given_passages import AskedQuestion
from eval.qa.measures import substring_match
from rag_server.config import ReorderKind
from rag_server.errors import ConfigError

Negatives = Literal["hard", "random"]
# How the ranking is placed in the prompt; "random" is the control, the ranking shuffled.
Order = ReorderKind | Literal["random"]
ORDERS: tuple[Order, ...] = (*get_args(ReorderKind), "random")


@dataclass(frozen=True, slots=True)
class Condition:
    """How every question is asked once.

    `place` is the place of the gold passage in the prompt, from 1, everything else in retrieval order; None means that the
    gold passage has a rank drawn at random, and `order` decides where that puts it.
    """

    num_passages: int
    negatives: Negatives
    order: Order
    place: int | None = None


def place_conditions(numbers: Sequence[int], num_places: int) -> list[Condition]:
    """Return a condition per number of passages and place of the gold one, spread evenly from the first place to the last."""
    return [Condition(number, "hard", "none", place) for number in numbers for place in spread_places(number, num_places)]


def number_conditions(numbers: Sequence[int], negatives: Sequence[Negatives]) -> list[Condition]:
    """Return a condition per number of passages, kind of negatives and order."""
    return [Condition(number, kind, order) for number in numbers for kind in negatives for order in ORDERS]


def spread_places(num_passages: int, num_places: int) -> list[int]:
    """Return at most so many different places from 1 to `num_passages`, both among them if there are two.

    Rounded down, so that five of 20 and three of 10 are the places of the published curves (gold at 0, 4, 9, 14, 19; 0, 4, 9).
    """
    steps = max(num_places - 1, 1)
    return sorted({1 + step * (num_passages - 1) // steps for step in range(num_places)})


def cut_passages(dataset: QaDataset, num_words: int) -> QaDataset:
    """Return the data set with passages of at most so many words, without the questions whose gold passage loses its answer."""
    questions = [
        replace(question, contexts=tuple(_cut(context, num_words) for context in question.contexts))
        for question in dataset.questions
    ]
    kept = tuple(question for question in questions if substring_match(gold_of(question).text, question.answers))
    return QaDataset(dataset.name, kept, tuple(_cut(context, num_words) for context in dataset.pool))


def gold_of(question: QaQuestion) -> QaContext:
    """Return the question's gold passage."""
    return next(context for context in question.contexts if context.is_gold)


def ask_under(condition: Condition, question: QaQuestion, dataset: QaDataset, seed: int) -> AskedQuestion:
    """Return the question as it is asked under the condition; what is drawn is the same for the same seed.

    The gold passage's rank is drawn once per question and number of passages, so that every order and kind of negatives is
    compared on the same one. Rank r has a probability in proportion to 1 / r, as good retrievers put the gold passage: with
    all ranks alike every order would put it everywhere alike, and there would be nothing to compare.

    Raises:
        ConfigError: The question has fewer distractors.
    """
    negatives = _negatives(condition, question, dataset, seed)
    rank = condition.place or _gold_rank(question, condition.num_passages, seed)
    ranked = [*negatives[: rank - 1], gold_of(question), *negatives[rank - 1 :]]
    if condition.order == "random":
        random.Random(f"{seed}/{question.id}/{condition.num_passages}/order").shuffle(ranked)
        return AskedQuestion(question.id, question.question, tuple(ranked), "none")
    return AskedQuestion(question.id, question.question, tuple(ranked), condition.order)


def _negatives(condition: Condition, question: QaQuestion, dataset: QaDataset, seed: int) -> list[QaContext]:
    number = condition.num_passages - 1
    if condition.negatives == "random":
        return distractors(dataset, question, number, random.Random(f"{seed}/{question.id}"))
    hard = [context for context in question.contexts if not context.is_gold]
    if len(hard) < number:
        raise ConfigError(f"question {question.id} has {len(hard)} distractors; ask for at most {len(hard) + 1} passages")
    return hard[:number]


def _gold_rank(question: QaQuestion, num_passages: int, seed: int) -> int:
    ranks = range(1, num_passages + 1)
    generator = random.Random(f"{seed}/{question.id}/{num_passages}/rank")
    return generator.choices(ranks, weights=[1 / rank for rank in ranks])[0]


def _cut(context: QaContext, num_words: int) -> QaContext:
    return replace(context, text=" ".join(context.text.split()[:num_words]))
