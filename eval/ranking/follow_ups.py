"""Makes conversations of two turns out of questions about paragraphs: the second turn refers to what the first one named.

There is no multi-turn set in the data, so one is made by a rule. Of two neighbouring questions about one paragraph, the second
becomes a follow-up if both name the same thing: the longest run of capitalised words of the second, its first word aside, that
stands in the first question as well. It is replaced by "it", with "its" for a possessive, also where people would
say "he" or "they".
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from eval.qa.datasets import QaDataset, QaQuestion

NAME = re.compile(r"\b[A-Z0-9][\w.-]*(?:\s+(?:(?:of|the|and|de|for|in)\s+)?[A-Z0-9][\w.-]*)*")
ARTICLE = re.compile(r"\b(?:[Tt]he|[Aa]n?)\s+$")


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A conversation; `question` is the second turn, `standalone` the same before its name was replaced by a pronoun."""

    id: str
    first: str
    first_answer: str
    question: str
    standalone: str
    paragraph: str


def follow_ups(dataset: QaDataset) -> list[FollowUp]:
    """Return the conversations that the questions of a data set with one paragraph each make, in its order."""
    by_paragraph: dict[str, list[QaQuestion]] = {}
    for question in dataset.questions:
        by_paragraph.setdefault(question.contexts[0].text, []).append(question)
    pairs = [pair for of_one in by_paragraph.values() for pair in pairwise(of_one)]
    made = [_follow_up(first, second) for first, second in pairs]
    return [conversation for conversation in made if conversation is not None]


def _follow_up(first: QaQuestion, second: QaQuestion) -> FollowUp | None:
    name = _shared_name(first.question, second.question)
    if name is None:
        return None
    start, end = name
    before, after = second.question[:start], second.question[end:]
    pronoun = "it"
    if after.startswith(("'s", "’s")):
        pronoun, after = "its", after[2:]
    question = f"{ARTICLE.sub('', before)}{pronoun}{after}"
    paragraph = second.contexts[0].text
    return FollowUp(second.id, first.question, first.answers[0], question, second.question, paragraph)


def _shared_name(first: str, second: str) -> tuple[int, int] | None:
    """Return where the longest name of the second question stands that the first one holds too."""
    spans: Sequence[tuple[int, int]] = [match.span() for match in NAME.finditer(second) if match.start() > 0]
    shared = [(start, end) for start, end in spans if second[start:end] in first]
    return max(shared, key=lambda span: span[1] - span[0], default=None)
