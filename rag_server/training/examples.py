"""Makes examples of rows: the prompt that the server sends, with some passages and not others, and what is to be answered."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag_server.errors import TrainingDataError, UnsupportedModelError
from rag_server.learning.models import prompt_ids, text_ids
from rag_server.prompt import build_prompt
from rag_server.protocols import Json
from rag_server.training.distractors import Distractors
from rag_server.training.rows import Row, RowPassage
from rag_server.types import Passage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# One of the phrases that the evaluation takes for a refusal.
REFUSAL = "The passages do not contain the answer."
# What the loss leaves out.
IGNORED = -100


@dataclass(frozen=True, slots=True)
class ExampleOptions:
    """How rows become examples.

    An example has 1 to `max_passages` passages. Of the answerable rows the share `unanswerable` loses its gold passages, and is
    to be refused; the share `reasoned` has its reasoning, or which passages matter, written before the answer.
    """

    max_passages: int = 5
    max_tokens: int = 1536
    unanswerable: float = 0.1
    reasoned: float = 0.0


@dataclass(frozen=True, slots=True)
class Example:
    """What is sent to the engine, and what it is to answer."""

    messages: tuple[Json, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class TokenizedExample:
    """Token ids of prompt and answer; the first `num_prompt` are the prompt, of which nothing is learned."""

    token_ids: tuple[int, ...]
    num_prompt: int


def make_example(row: Row, distractors: Distractors, options: ExampleOptions, chooser: random.Random) -> Example:
    """Return one example of a row; another state of the chooser makes another one.

    Raises:
        TrainingDataError: The row has no passage, and there is no distractor.
    """
    number = chooser.randint(1, options.max_passages)
    gold = [passage for passage in row.passages if passage.gold]
    own = [passage for passage in row.passages if not passage.gold]
    if chooser.random() < options.unanswerable:
        gold = []
    others = chooser.sample(own, min(len(own), max(0, number - len(gold))))
    others += distractors.draw(max(0, number - len(gold) - len(others)), chooser)
    placed = [*gold, *others]
    if not placed:
        raise TrainingDataError(f"the row {row.id!r} has no passage, and no other row's can stand in for one")
    chooser.shuffle(placed)
    is_reasoned = chooser.random() < options.reasoned
    return Example(tuple(_messages(row.question, placed)), _answer(row, placed, is_reasoned=is_reasoned))


def _answer(row: Row, placed: Sequence[RowPassage], *, is_reasoned: bool) -> str:
    """Return the first answer with a mark for each passage that it rests on."""
    numbers = [number for number, passage in enumerate(placed, start=1) if passage.gold]
    answer = REFUSAL
    if row.answers and numbers:
        answer = f"{row.answers[0]} {''.join(f'[{number}]' for number in numbers)}"
    if not is_reasoned:
        return answer
    which = f"The passages that matter: {', '.join(map(str, numbers))}." if numbers else "None of the passages matters."
    return f"{row.reasoning or which}\n\n{answer}"


def _messages(question: str, placed: Sequence[RowPassage]) -> list[Json]:
    passages = [
        Passage(number, str(number), "", "passage", row.title, row.text, 0, len(row.text), 1 / number, number)
        for number, row in enumerate(placed, start=1)
    ]

    async def count(_: Sequence[Json]) -> int:
        return 0

    conversation = [{"role": "user", "content": question}]
    prompt = asyncio.run(build_prompt(conversation, passages, place=list, count_tokens=count, max_tokens=1))
    return prompt.messages


def tokenized(example: Example, tokenizer: "PreTrainedTokenizerBase", max_tokens: int) -> TokenizedExample | None:
    """Return the example in tokens as the engine reads and writes them, None if it is longer than that.

    Raises:
        UnsupportedModelError: The model has no chat template, or no token that ends a turn.
    """
    prompt = prompt_ids(tokenizer, example.messages)
    if tokenizer.eos_token_id is None:
        raise UnsupportedModelError("the model's tokenizer has no token that ends an answer")
    answer = (*text_ids(tokenizer, example.answer), int(tokenizer.eos_token_id))
    if len(prompt) + len(answer) > max_tokens:
        return None
    return TokenizedExample((*prompt, *answer), len(prompt))
