"""Reads the question-answering sets of the folder that RAG_EVAL_DATA names into one form, and picks passages for a question."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from eval.data_files import open_text
from eval.qa.measures import substring_match
from eval.ranking.datasets import evaluation_folder
from rag_server.errors import ConfigError
from rag_server.protocols import Json

Row = TypeVar("Row")

XQUAD_LANGUAGES = ("en", "de", "zh", "ar")


@dataclass(frozen=True, slots=True)
class QaContext:
    """A passage that comes with a question; `is_gold` where the data set's makers say that the answer rests on it."""

    title: str
    text: str
    is_gold: bool


@dataclass(frozen=True, slots=True)
class QaQuestion:
    """A question, every answer that counts as right, and its passages in the data set's order.

    An unanswerable question has no answers, and passages that do not answer it.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    contexts: tuple[QaContext, ...]
    answerable: bool


@dataclass(frozen=True, slots=True)
class QaDataset:
    """Questions, and the passages that may serve any of them as distractors, each text once."""

    name: str
    questions: tuple[QaQuestion, ...]
    pool: tuple[QaContext, ...]


def load_questions(name: str) -> QaDataset:
    """Return the data set of that name.

    Raises:
        ConfigError: There is no such data set, its files are not where RAG_EVAL_DATA says, or a row is malformed.
    """
    if name not in _LOADERS:
        raise ConfigError(f"there is no question-answering set {name!r}; known are {', '.join(_LOADERS)}")
    return _LOADERS[name](name)


def load_lost_in_the_middle(folder: Path) -> QaDataset:
    """Return the questions of litm_20docs.jsonl.gz: the gold passage, then 19 distractors in retrieval order."""
    return _dataset("litm-20docs", _read(folder / "litm_20docs.jsonl.gz", _question))


def sample_questions(dataset: QaDataset, num_questions: int, seed: int) -> list[QaQuestion]:
    """Return so many questions at random, or all if there are fewer; the same seed gives the same ones."""
    num_sampled = min(num_questions, len(dataset.questions))
    return random.Random(seed).sample(dataset.questions, num_sampled)


def given_contexts(dataset: QaDataset, question: QaQuestion, num_passages: int, seed: int) -> tuple[QaContext, ...]:
    """Return the passages to answer a question from, in random order, the same for the same seed.

    The question's gold passages come first, then its others in the data set's order, then distractors from the pool; the
    order of what is chosen is random, since in many sets the gold passage stands first.
    """
    own = sorted(question.contexts, key=lambda context: not context.is_gold)[:num_passages]
    generator = random.Random(f"{seed}/{question.id}")
    chosen = [*own, *distractors(dataset, question, num_passages - len(own), generator)]
    generator.shuffle(chosen)
    return tuple(chosen)


def distractors(dataset: QaDataset, question: QaQuestion, num_passages: int, generator: random.Random) -> list[QaContext]:
    """Return random passages of the pool, none of the question's own and none that holds one of its answers.

    Raises:
        ConfigError: The pool does not hold so many.
    """
    own = {context.text for context in question.contexts}
    chosen: list[QaContext] = []
    candidates = iter(generator.sample(dataset.pool, len(dataset.pool)) if num_passages else ())
    while len(chosen) < num_passages:
        context = next(candidates, None)
        if context is None:
            raise ConfigError(f"{dataset.name} has no {num_passages} passages beside question {question.id}; ask for fewer")
        if context.text not in own and not substring_match(context.text, question.answers):
            chosen.append(context)
    return chosen


def _dataset(name: str, questions: Sequence[QaQuestion], pool: Sequence[QaContext] = ()) -> QaDataset:
    contexts = pool or [context for question in questions for context in question.contexts]
    unique = {context.text: replace(context, is_gold=False) for context in contexts}
    return QaDataset(name, tuple(questions), tuple(unique.values()))


def _load(name: str, *, paths: Sequence[str], sole_context_is_gold: bool = False) -> QaDataset:
    convert = partial(_question, sole_context_is_gold=sole_context_is_gold)
    return _dataset(name, [question for path in paths for question in _read(evaluation_folder() / path, convert)])


def _load_xquad(name: str) -> QaDataset:
    folder, language = evaluation_folder() / "xquad", name.removeprefix("xquad-")
    # One of the four languages is compressed.
    suffix = ".jsonl.gz" if (folder / f"xquad_{language}.jsonl.gz").is_file() else ".jsonl"
    paragraphs = dict(_read(folder / f"corpus_{language}{suffix}", _paragraph))

    def question(row: Json) -> QaQuestion:
        return QaQuestion(row["id"], row["question"], tuple(row["answers"]), (paragraphs[row["paragraph"]],), answerable=True)

    return _dataset(name, _read(folder / f"xquad_{language}{suffix}", question), list(paragraphs.values()))


def _paragraph(row: Json) -> tuple[str, QaContext]:
    return row["_id"], QaContext(row["title"], row["text"], is_gold=True)


def _question(row: Json, *, sole_context_is_gold: bool = False) -> QaQuestion:
    """Return the question of a row; where no passage is marked as gold, that of an answerable question is."""
    answers = tuple(row["answers"])
    contexts = tuple(
        QaContext(context["title"], context["text"], bool(answers) if sole_context_is_gold else context["is_gold"])
        for context in row["contexts"]
    )
    return QaQuestion(row["id"], row["question"], answers, contexts, answerable=bool(answers))


def _read(path: Path, convert: Callable[[Json], Row]) -> list[Row]:
    """Return what `convert` makes of each line."""
    rows = []
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                rows.append(convert(json.loads(line)))
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigError(f"{path} line {number}: {type(error).__name__}: {error}; correct the row") from error
    return rows


_CLAPNQ = {kind: f"clapnq/clapnq_dev_{kind}.jsonl.gz" for kind in ("answerable", "unanswerable")}
_LOADERS: dict[str, Callable[[str], QaDataset]] = {
    **{f"xquad-{language}": _load_xquad for language in XQUAD_LANGUAGES},
    "clapnq": partial(_load, paths=tuple(_CLAPNQ.values()), sole_context_is_gold=True),
    "clapnq-answerable": partial(_load, paths=(_CLAPNQ["answerable"],), sole_context_is_gold=True),
    "clapnq-unanswerable": partial(_load, paths=(_CLAPNQ["unanswerable"],), sole_context_is_gold=True),
    "hotpotqa": partial(_load, paths=("hotpotqa/hotpotqa_train_100.jsonl.gz",)),
    "2wikimultihopqa": partial(_load, paths=("2wikimultihopqa/2wiki_164.jsonl.gz",)),
    "rgb-en_fact": partial(_load, paths=("rgb/en_fact.jsonl.gz",)),
    "rgb-zh_fact": partial(_load, paths=("rgb/zh_fact.jsonl.gz",)),
    "litm-20docs": lambda _: load_lost_in_the_middle(evaluation_folder() / "lost-in-the-middle"),
    "litm-oracle": partial(_load, paths=("lost-in-the-middle/nq_open_oracle.jsonl.gz",)),
}
QA_DATASETS = tuple(_LOADERS)
