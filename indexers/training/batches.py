"""Makes batches for GRL: which passages each query is compared with, and all texts as tensors in mini-batches."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from indexers.llm_embedder import LlmEmbedder
from indexers.training.data import Example
from indexers.training.generation import padded_pairs, pair_tokens
from rag_server.learning.splits import content_hash


@dataclass(frozen=True, slots=True)
class Comparison:
    """The passages of a batch, each once, and what they are to its queries.

    `candidates` (queries, candidates) are indices of passages, the right one first; every row has the same number.
    `also_right` (queries, passages) marks passages that are right beside it.
    """

    passages: tuple[str, ...]
    candidates: torch.Tensor
    also_right: torch.Tensor


def compare(examples: Sequence[Example], num_negatives: int, chooser: random.Random) -> Comparison:
    """Choose one right passage and up to `num_negatives` wrong ones for each example.

    An example with fewer negatives of its own is given passages of the others.
    """
    chosen = [
        [chooser.choice(example.positives), *chooser.sample(example.negatives, min(num_negatives, len(example.negatives)))]
        for example in examples
    ]
    places: dict[str, int] = {}
    passages: list[str] = []
    for text in (text for texts in chosen for text in texts):
        if places.setdefault(content_hash(text), len(passages)) == len(passages):
            passages.append(text)
    rows = []
    right: list[set[int]] = []
    for example, texts in zip(examples, chosen, strict=True):
        right.append({places[key] for key in map(content_hash, example.positives) if key in places})
        row = list(dict.fromkeys(places[content_hash(text)] for text in texts))
        others = [place for place in range(len(passages)) if place not in right[-1] and place not in row]
        rows.append(row + chooser.sample(others, min(len(others), num_negatives + 1 - len(row))))
    width = min(map(len, rows))
    also_right = torch.zeros(len(rows), len(passages), dtype=torch.bool)
    for query, row in enumerate(rows):
        also_right[query, sorted(right[query] - {row[0]})] = True
    return Comparison(tuple(passages), torch.tensor([row[:width] for row in rows]), also_right)


@dataclass(frozen=True, slots=True)
class Collator:
    """Makes a batch of examples; the same examples in the same order give the same batch.

    `mini_batch_size` texts are in memory at a time, and `num_generated` candidates of each query are generated (0 for none).
    """

    embedder: LlmEmbedder
    num_negatives: int
    num_generated: int
    mini_batch_size: int
    seed: int

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """Return the tensors of a step.

        `encoded` are mini-batches of queries and passages, of similar length; row `order[i]` of theirs is the i-th of the
        queries and then the passages. `generated` are mini-batches of pairs, all queries with their first candidate, then
        with their second, and so on.
        """
        queries = [example.query for example in examples]
        compared = compare(examples, self.num_negatives, random.Random("\n".join([str(self.seed), *queries])))
        rows = [*self.embedder.tokens(queries, "query"), *self.embedder.tokens(compared.passages, "passage")]
        by_length = sorted(range(len(rows)), key=lambda row: -len(rows[row].ids))
        encoded = [
            self.embedder.padded([rows[row] for row in by_length[start : start + self.mini_batch_size]])
            for start in range(0, len(rows), self.mini_batch_size)
        ]
        generated = self._generated(queries, compared)
        return {
            "encoded": encoded,
            "order": torch.tensor(by_length).argsort(),
            "candidates": compared.candidates,
            "also_right": compared.also_right,
            "generated": generated,
            "num_tokens": sum(int(part["attention_mask"].sum()) for part in (*encoded, *generated)),
        }

    def _generated(self, queries: Sequence[str], compared: Comparison) -> list[dict[str, torch.Tensor]]:
        width = min(self.num_generated, compared.candidates.shape[1])
        if width == 0:
            return []
        parts = []
        size = max(1, self.mini_batch_size // width)
        for start in range(0, len(queries), size):
            asked = queries[start : start + size]
            candidates = compared.candidates[start : start + size, :width].T.flatten().tolist()
            pairs = pair_tokens(
                self.embedder.tokenizer,
                [*asked] * width,
                [compared.passages[place] for place in candidates],
                max_tokens=self.embedder.options.max_tokens,
            )
            parts.append(padded_pairs(self.embedder.tokenizer, pairs))
        return parts
