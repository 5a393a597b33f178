"""Makes examples of labels: the prompt that the server sends, with some of the passages, and the order to be written."""

import bisect
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from rag_server.errors import TrainingDataError
from rag_server.learning.loop import Batch
from rag_server.learning.models import prompt_ids
from rag_server.types import Passage
from rag_server.untrusted_text import without_special_tokens
from rerankers.listwise_format import ListwiseFormat
from rerankers.listwise_model import MIN_WORDS, ListwiseOptions
from rerankers.passage_text import first_words, ranking_texts
from rerankers.training.importance import Answer, answer_of
from rerankers.training.labels import RankingLabel, as_passages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class ExampleOptions:
    """How labels become examples.

    An example has `min_passages` to `max_passages` passages, or all if there are fewer: the label's best one, without which
    there may be nothing to tell apart, and others drawn at random. They stand in the first stage's order, as they will when it
    is served, or in a random one (`shuffled`). Of each passage `passage_words` are read, or as many as fit into `max_tokens`.
    """

    min_passages: int = 2
    max_passages: int = 20
    shuffled: bool = False
    passage_words: int = ListwiseOptions().passage_words
    max_tokens: int = 8192


@dataclass(frozen=True, slots=True)
class RankingExample:
    """Token ids of the prompt, of which nothing is learned, and the answer."""

    prompt_ids: tuple[int, ...]
    answer: Answer


class ExampleMaker:
    """Makes examples in one format for one tokenizer."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", form: ListwiseFormat, options: ExampleOptions) -> None:
        """Make sure that the tokenizer can write rankings of as many passages as an example may have.

        Raises:
            TrainingDataError: The options do not fit together, or name more passages than there are identifiers.
            UnsupportedModelError: The tokenizer has no chat template, or cannot write the format.
        """
        if not 2 <= options.min_passages <= options.max_passages:
            raise TrainingDataError(
                f"an example needs 2 passages or more: not {options.min_passages} to {options.max_passages}"
            )
        self._tokenizer = tokenizer
        self._form = form
        self._options = options
        answer_of(tokenizer, form, range(options.max_passages))
        self._prompt_ids("?", ["first", "second"])

    def make(self, label: RankingLabel, chooser: random.Random) -> RankingExample:
        """Return one example of a label; another state of the chooser makes another one.

        Raises:
            TrainingDataError: Even a few words of each passage are more than `max_tokens`.
        """
        options = self._options
        most = min(options.max_passages, len(label.passages))
        number = chooser.randint(min(options.min_passages, most), most)
        best, *others = label.permutation
        drawn = [best, *chooser.sample(others, number - 1)]
        placed = chooser.sample(drawn, number) if options.shuffled else sorted(drawn)
        place_of = {position: place for place, position in enumerate(placed)}
        answer = answer_of(self._tokenizer, self._form, [place_of[one] for one in label.permutation if one in place_of])
        candidates = as_passages(label.passages)
        room = options.max_tokens - len(answer.token_ids)
        return RankingExample(self._fitting_prompt(label, [candidates[one] for one in placed], room), answer)

    def _fitting_prompt(self, label: RankingLabel, passages: Sequence[Passage], room: int) -> tuple[int, ...]:
        """Return the prompt with the most words per passage, alike for all, that has no more than `room` tokens."""
        longest = self._options.passage_words
        texts = ranking_texts(passages, longest).texts
        query = without_special_tokens(label.query)

        def prompt(words: int) -> tuple[int, ...]:
            return self._prompt_ids(query, [first_words(text, words) for text in texts])

        whole = prompt(longest)
        if len(whole) <= room:
            return whole
        lengths = range(min(MIN_WORDS, longest), longest)
        num_fitting = bisect.bisect_right(lengths, room, key=lambda words: len(prompt(words)))
        if num_fitting == 0:
            raise TrainingDataError(
                f"the query {label.query_id!r} with {len(texts)} passages of {lengths.start} words is longer than "
                f"{self._options.max_tokens} tokens: allow more, or fewer passages"
            )
        return prompt(lengths[num_fitting - 1])

    def _prompt_ids(self, query: str, texts: Sequence[str]) -> tuple[int, ...]:
        return prompt_ids(self._tokenizer, self._form.messages(query, texts))


class DrawnExamples(Sequence[RankingExample]):
    """So many examples, made when they are asked for; each time that a label comes round it is another one.

    Which one a place holds depends on the seed alone, so that an interrupted run goes on with the same.
    """

    def __init__(self, labels: Sequence[RankingLabel], maker: ExampleMaker, *, number: int, seed: int) -> None:
        self._labels = labels
        self._maker = maker
        self._number = number
        self._seed = seed

    def __len__(self) -> int:
        return self._number

    def __getitem__(self, index: Any) -> Any:
        """Return the example at a place."""
        if not 0 <= index < self._number:
            raise IndexError(index)
        label = self._labels[index % len(self._labels)]
        return self._maker.make(label, random.Random(f"{self._seed}/{index}"))


def collate(examples: Sequence[RankingExample], *, padding_id: int) -> Batch:
    """Return `input_ids`, `attention_mask` and `position_ids`, [examples, longest], and `targets` and `weights`.

    Everything is padded on the left, so that all answers end at the last position; `targets` and `weights` are
    [examples, longest answer], the weights 0 where there is no answer token.
    """
    sequences = [(*example.prompt_ids, *example.answer.token_ids) for example in examples]
    answers = [example.answer for example in examples]
    mask = _left_padded([[1] * len(sequence) for sequence in sequences], 0)
    return {
        "input_ids": _left_padded(sequences, padding_id),
        "attention_mask": mask,
        "position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0),
        "targets": _left_padded([answer.token_ids for answer in answers], padding_id),
        "weights": _left_padded([answer.weights for answer in answers], 0.0),
        "num_tokens": sum(map(len, sequences)),
    }


def _left_padded(rows: Sequence[Sequence[int] | Sequence[float]], padding: float) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[padding] * (longest - len(row)) + list(row) for row in rows])
