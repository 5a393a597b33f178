"""What a batch compares, and its tensors."""

import random

import torch

from indexers.llm_embedder import LlmEmbedder
from indexers.llm_embedder_folder import EmbedderOptions
from indexers.training.batches import Collator, compare
from indexers.training.data import Example
from tests.indexers.tiny_llm import tiny_model, tiny_tokenizer

EXAMPLES = [
    Example(query="a?", positives=("A",), negatives=("B", "C")),
    Example(query="b?", positives=("B",)),
    # The same passage as the first one's.
    Example(query="aa?", positives=("a", "D"), negatives=("E",)),
]


def test_every_passage_is_compared_once() -> None:
    """Equal passages are one; a right one comes first, then own negatives, then others'; right ones are never negatives."""
    compared = compare(EXAMPLES, 2, random.Random(0))
    texts = [text.casefold() for text in compared.passages]

    assert len(set(texts)) == len(texts)
    assert compared.candidates.shape == (3, 3)
    for example, row, also_right in zip(EXAMPLES, compared.candidates.tolist(), compared.also_right, strict=True):
        right = {text.casefold() for text in example.positives}
        named = [texts[place] for place in row]
        assert named[0] in right
        assert not right & set(named[1:])
        assert len(set(named)) == 3
        assert {text.casefold() for text in example.negatives} <= set(named)
        assert {texts[place] for place in also_right.nonzero()[:, 0].tolist()} == (right & set(texts)) - {named[0]}


def test_rows_have_the_length_of_the_shortest() -> None:
    """Where a batch holds no more wrong passages for one query, all have as many as it."""
    assert compare(EXAMPLES[1:2], 2, random.Random(0)).candidates.tolist() == [[0]]
    assert compare(EXAMPLES[:2], 5, random.Random(0)).candidates.shape == (2, 3)


def test_mini_batches_hold_all_texts() -> None:
    """Put in order, the rows of the mini-batches are the queries and then the passages; tokens are counted without padding."""
    embedder = LlmEmbedder(tiny_model(), tiny_tokenizer(), EmbedderOptions(query_prompt="Q", passage_prompt="", max_tokens=64))
    batch = Collator(embedder, 2, 2, 4, 0)(EXAMPLES)
    rows = [
        ids[mask.bool()].tolist()
        for part in batch["encoded"]
        for ids, mask in zip(part["input_ids"], part["attention_mask"], strict=True)
    ]
    compared = compare(EXAMPLES, 2, random.Random("\n".join(["0", "a?", "b?", "aa?"])))
    expected = tiny_tokenizer()([*("Qa?", "Qb?", "Qaa?"), *compared.passages])["input_ids"]

    assert [rows[place] for place in batch["order"].tolist()] == expected
    assert all(len(part["input_ids"]) <= 4 for part in batch["encoded"])
    # All queries with their first candidate, then with their second.
    told = [
        tiny_tokenizer().decode(ids[learned])
        for part in batch["generated"]
        for ids, learned in zip(part["input_ids"], part["learned"], strict=True)
    ]
    first, second = compared.candidates[:, 0].tolist(), compared.candidates[:, 1].tolist()
    pairs = [*first[:2], *second[:2], first[2], second[2]]
    assert told == [compared.passages[place] for place in pairs]
    counted = sum(map(len, expected)) + sum(int(part["attention_mask"].sum()) for part in batch["generated"])
    assert batch["num_tokens"] == counted
    assert torch.equal(batch["candidates"], compared.candidates)
