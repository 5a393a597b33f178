"""Counting what was computed before, against worked examples and brute force."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from eval.bench.asked_prompts import prompt_of
from eval.bench.prompt_reuse import PrefixCache, ReuseCounter, passage_blocks
from eval.qa.datasets import QaContext
from rag_server.protocols import Json
from tests.rerankers.training.conftest import KINDS, as_transformers

SEPARATOR = " # #"
CATS, BOATS = QaContext("Cats", "Cats sleep.", is_gold=False), QaContext("Boats", "A ketch has two masts.", is_gold=False)


@pytest.fixture(scope="module", params=["llama-3", "qwen", "smollm"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """Tokenizers that join different signs to each other, and to the line ends behind them."""
    return as_transformers(KINDS[request.param]())


def asked(question: str, *passages: QaContext, separator: str) -> list[Json]:
    return prompt_of([{"role": "user", "content": question}], passages, order="none", separator=separator)


def test_prefixes_are_the_worked_example() -> None:
    """Blocks of two tokens; what follows an unknown block is unknown, and the last token is always left."""
    cache = PrefixCache(2)
    prompts = [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [1, 2, 3, 4], [9, 9, 3, 4, 5], [1, 2, 9, 9, 5, 6]]

    assert [cache.add(prompt) for prompt in prompts] == [0, 4, 2, 0, 2]


@given(prompts=st.lists(st.lists(st.integers(0, 1), max_size=9), max_size=8), block_tokens=st.integers(1, 4))
def test_prefixes_are_those_of_some_earlier_prompt(prompts: list[list[int]], block_tokens: int) -> None:
    """The longest beginning in whole blocks that any earlier prompt has too, found by looking at each of them."""
    cache = PrefixCache(block_tokens)
    for number, prompt in enumerate(prompts):
        lengths = range(0, len(prompt), block_tokens)
        known = [length for length in lengths if any(old[:length] == prompt[:length] for old in prompts[:number])]

        assert cache.add(prompt) == max(known, default=0)


@pytest.mark.parametrize("separator", ["", SEPARATOR])
def test_blocks_are_the_passages_as_they_stand_in_the_prompt(separator: str) -> None:
    """With their numbers, or without where these stand before the separator."""
    texts = ["Cats\nCats sleep.", "Boats\nA ketch has two masts."]
    numbered = [f"[{number}] {text}" for number, text in enumerate(texts, start=1)]

    assert passage_blocks(asked("Who?", CATS, BOATS, separator=separator), separator) == (texts if separator else numbered)


def counted(tokenizer: PreTrainedTokenizerFast, prompts: Sequence[Sequence[Json]], separator: str) -> ReuseCounter:
    counter = ReuseCounter(tokenizer, separator=separator, block_tokens=16)
    for prompt in prompts:
        counter.add(prompt)
    return counter


def test_a_passage_is_found_again_at_another_place_by_its_separators_only(tokenizer: PreTrainedTokenizerFast) -> None:
    """Two passages in the other order: nothing is as it was with their numbers, everything without, in tokens too."""
    # The last one is LMCache's default.
    for separator in ("", SEPARATOR, " # # "):
        prompts = [asked("Who?", *pair, separator=separator) for pair in ((CATS, BOATS), (BOATS, CATS))]
        alone = counted(tokenizer, prompts[:1], separator).reuse
        both = counted(tokenizer, prompts, separator).reuse

        assert both.prompt == 2 * alone.prompt
        assert both.in_passages == 2 * alone.in_passages > 0
        assert both.same_text == both.same_tokens == (alone.in_passages if separator else 0)
        assert 0 < both.same_prefix < alone.prompt
        assert (both.separators_written, both.separators_found) == ((8, 8) if separator else (0, 0))


def test_a_separator_that_joins_what_stands_before_it_is_not_found(tokenizer: PreTrainedTokenizerFast) -> None:
    """Behind the number a space belongs to the letter's token, which is another one than the letter's alone."""
    reuse = counted(tokenizer, [asked("Who?", CATS, separator="Z")], "Z").reuse

    assert (reuse.separators_written, reuse.separators_found) == (2, 1)
