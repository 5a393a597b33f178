"""Turns whatever a listwise model wrote into a complete ranking: every candidate exactly once."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rag_server.types import Passage

# Longer digit strings name no candidate.
_NUMBER = r"(?<!\d)\d{1,6}(?!\d)"
_WELL_FORMED = re.compile(rf"\[{_NUMBER}\](?: > \[{_NUMBER}\])*")
# "[3]", "3]" (its bracket was the prompt's last token), "3 >" and "> 3"; not the 3 of "3. [12]", which counts lines.
_IN_CHAIN = re.compile(rf"({_NUMBER})\]|(?<![\w\[.])({_NUMBER})(?=\s*>)|(?<=>)\s*({_NUMBER})(?!\s*[.)]?\s*\[)(?![\d\]])")
_NUMBERS_ONLY = re.compile(rf"[\s,;|]*{_NUMBER}(?:[\s,;|]+{_NUMBER})*[\s,;|.]*")
_THOUGHT = re.compile(r"\A.*</think>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Mentions:
    """The candidates that an output names, counted from 0, in its order: some perhaps twice, or beyond the last candidate.

    `well_formed` says that the output is of the form that was asked for; it may still repeat, skip or invent.
    """

    indices: tuple[int, ...]
    well_formed: bool


@dataclass(frozen=True, slots=True)
class Permutation:
    """A complete order of `len(order)` candidates, the first `num_named` of them as the output named them."""

    order: tuple[int, ...]
    num_named: int
    well_formed: bool
    repaired: bool


def parse_numbers(output: str) -> Mentions:
    """Return the candidates of an output like `[3] > [1] > [2]`, which counts them from 1.

    Identifiers stand in brackets or in a chain of `>`; a model's thoughts before `</think>` are left out, and so are other
    numbers (of lines, in prose), unless the output is nothing but numbers.
    """
    text = _THOUGHT.sub("", output).strip()
    if _WELL_FORMED.fullmatch(text):
        return Mentions(tuple(int(number) - 1 for number in re.findall(r"\d+", text)), well_formed=True)
    numbers = [next(filter(None, groups)) for groups in _IN_CHAIN.findall(text)]
    if not numbers and _NUMBERS_ONLY.fullmatch(text):
        numbers = re.findall(_NUMBER, text)
    return Mentions(tuple(int(number) - 1 for number in numbers), well_formed=False)


def complete(mentions: Mentions, num_candidates: int, *, num_wanted: int | None = None) -> Permutation:
    """Return the ranking that begins with the candidates that are named, each once, and ends with the others as they were.

    Args:
        mentions: What the output names.
        num_candidates: How many candidates there are.
        num_wanted: How many the output had to name, None for all.
    """
    wanted = num_candidates if num_wanted is None else min(num_wanted, num_candidates)
    valid = [index for index in dict.fromkeys(mentions.indices) if 0 <= index < num_candidates][:wanted]
    named = set(valid)
    rest = [index for index in range(num_candidates) if index not in named]
    clean = mentions.well_formed and tuple(valid) == mentions.indices[:wanted] and len(valid) == wanted
    return Permutation((*valid, *rest), len(valid), mentions.well_formed, repaired=not clean)


def in_order(passages: Sequence[Passage], order: Iterable[int]) -> tuple[Passage, ...]:
    """Return the passages in that order with `rank` set anew, from 1."""
    return tuple(replace(passages[index], rank=rank) for rank, index in enumerate(order, start=1))
