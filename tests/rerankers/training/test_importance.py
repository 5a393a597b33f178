"""Weights token by token for each kind of tokenizer, and the loss against one that is written out."""

import json
import math

import pytest
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from rag_server.errors import TrainingDataError, UnsupportedModelError
from rerankers.identifiers import output_tokens, single_token_identifiers
from rerankers.listwise_format import CompactFormat, PaperFormat
from rerankers.training.importance import answer_of, compact_format, weighted_loss
from tests.rerankers.conftest import TokenizerEngine
from tests.rerankers.tokenizer_kinds import characters
from tests.rerankers.training.conftest import KINDS, as_transformers

TOKENIZERS = {kind: as_transformers(make()) for kind, make in KINDS.items()}
# 1 + 1 / log2(rank + 1), by hand; log2(3) = 1.584963.
W = {1: 2.0, 2: 1 + 1 / 1.584963, 3: 1.5}
# Of `[3] > [12] > [1]`: the tokens of each kind, and for each the rank that it names, 0 for the separator.
BY_HAND = {
    "llama-2": (["▁[", "3]", "▁>", "▁[1", "2]", "▁>", "▁[1]"], [1, 1, 0, 2, 2, 0, 3]),
    "mistral": (["▁[", "3]", "▁>", "▁[1", "2]", "▁>", "▁[1]"], [1, 1, 0, 2, 2, 0, 3]),
    "llama-3": (["[", "3", "]", "Ġ>", "Ġ[", "12", "]", "Ġ>", "Ġ[", "1", "]"], [1, 1, 1, 0, 2, 2, 2, 0, 3, 3, 3]),
    "qwen": (["[", "3", "]", "Ġ>", "Ġ[", "1", "2", "]", "Ġ>", "Ġ[", "1", "]"], [1, 1, 1, 0, 2, 2, 2, 2, 0, 3, 3, 3]),
    "smollm": (["[", "3", "]", "Ġ>", "Ġ[", "1", "2", "]", "Ġ>", "Ġ[", "1", "]"], [1, 1, 1, 0, 2, 2, 2, 2, 0, 3, 3, 3]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_the_papers_format_token_by_token(kind: str) -> None:
    """Brackets and digits weigh what their rank weighs, separators 1, whatever the tokenizer makes of them."""
    tokenizer = TOKENIZERS[kind]
    tokens, ranks = BY_HAND[kind]

    answer = answer_of(tokenizer, PaperFormat(), [2, 11, 0])

    assert answer.text == "[3] > [12] > [1]"
    assert tokenizer.convert_ids_to_tokens(list(answer.token_ids)) == tokens
    assert answer.weights == pytest.approx([W[rank] if rank else 1.0 for rank in ranks], abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_the_compact_format_token_by_token(kind: str) -> None:
    """One token per passage, its space in it, and no separator: the weights are those of ranks 1, 2, 3."""
    tokenizer = TOKENIZERS[kind]
    space = "▁" if kind in ("llama-2", "mistral") else "Ġ"

    answer = answer_of(tokenizer, compact_format(tokenizer), [2, 0, 1])

    assert answer.text == " C A B"
    assert tokenizer.convert_ids_to_tokens(list(answer.token_ids)) == [f"{space}C", f"{space}A", f"{space}B"]
    assert answer.weights == pytest.approx([W[1], W[2], W[3]], abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_no_vocabulary_s_ids_decide(kind: str) -> None:
    """The separator's token is another number in each vocabulary; its weight is 1 and the second identifier's is not 2.

    A count of one vocabulary's token id gives every token the weight 2 under another.
    """
    tokenizer = TOKENIZERS[kind]
    answer = answer_of(tokenizer, PaperFormat(), range(20))
    by_token = dict(zip(tokenizer.convert_ids_to_tokens(list(answer.token_ids)), answer.weights, strict=True))
    separators = {token: weight for token, weight in by_token.items() if token.lstrip("Ġ▁") == ">"}

    assert list(separators.values()) == [1.0]
    assert len({round(weight, 6) for weight in answer.weights}) == 21
    assert answer.weights[-1] == pytest.approx(1 + 1 / math.log2(21))


def test_weights_do_not_change_when_a_vocabulary_is_numbered_anew() -> None:
    """The same tokens under other ids: the same weights, where counting one vocabulary's separator finds none in the other."""
    description = json.loads(KINDS["smollm"]().to_str())
    vocabulary = description["model"]["vocab"]
    description["model"]["vocab"] = {token: (id_ + 7) % len(vocabulary) for token, id_ in vocabulary.items()}
    renumbered = as_transformers(Tokenizer.from_str(json.dumps(description)))

    before, after = (answer_of(tokenizer, PaperFormat(), [2, 11, 0]) for tokenizer in (TOKENIZERS["smollm"], renumbered))

    assert vocabulary["\u0120>"] in before.token_ids
    assert vocabulary["\u0120>"] not in after.token_ids
    assert after.weights == before.weights


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [1, 9, 26])
async def test_answers_are_what_serving_lets_the_model_write(kind: str, number: int) -> None:
    """In both formats the tokens are those of the constraint that the server sends to the engine."""
    tokenizer = TOKENIZERS[kind]
    engine = TokenizerEngine(KINDS[kind]())
    order = list(range(number))[::-1]
    for form in (PaperFormat(), CompactFormat(await single_token_identifiers(engine, "test"))):
        allowed = await output_tokens(engine, "test", form, number)
        written = [*allowed.first[order[0]], *(token for index in order[1:] for token in allowed.later[index])]

        assert list(answer_of(tokenizer, form, order).token_ids) == written


@pytest.mark.parametrize("kind", KINDS)
async def test_training_and_serving_choose_the_same_identifiers(kind: str) -> None:
    """The compact format of a tokenizer is the one that serving makes of the engine's."""
    served = CompactFormat(await single_token_identifiers(TokenizerEngine(KINDS[kind]()), "test"))
    import asyncio

    trained = await asyncio.to_thread(compact_format, TOKENIZERS[kind])

    assert [trained.separated(index) for index in range(trained.max_passages)] == [
        served.separated(index) for index in range(served.max_passages)
    ]


def test_identifiers_of_several_tokens_are_refused(smollm: PreTrainedTokenizerFast) -> None:
    """AB is two tokens here; a tokenizer without any such identifiers is told to take the other format."""
    with pytest.raises(UnsupportedModelError, match="not single tokens"):
        answer_of(smollm, CompactFormat(["A", "AB"]), [1, 0])
    with pytest.raises(UnsupportedModelError, match="--format paper"):
        compact_format(as_transformers(characters()))


def test_more_passages_than_identifiers_are_refused(smollm: PreTrainedTokenizerFast) -> None:
    """They could not be told apart."""
    with pytest.raises(TrainingDataError, match="3 passages are more than the 2 identifiers"):
        answer_of(smollm, CompactFormat(["A", "B"]), [0, 1, 2])


def test_the_loss_is_the_papers() -> None:
    """Two examples of 3 and 2 tokens among 4 words: the mean of -(1/3) sum w log P and -(1/2) sum w log P, written out."""
    logits = torch.tensor(
        [
            [[1.0, 2.0, 0.0, -1.0], [0.5, 0.0, 0.0, 3.0], [0.0, 0.0, 1.0, 0.0]],
            [[9.0, 9.0, 9.0, 0.0], [0.0, 1.0, 2.0, 3.0], [2.0, 0.0, 0.0, 0.0]],
        ]
    )
    targets = torch.tensor([[1, 3, 0], [0, 2, 0]])
    weights = torch.tensor([[2.0, 1.0, 1.5], [0.0, 2.0, 1.6]])

    def log_p(row: list[float], target: int) -> float:
        return row[target] - math.log(sum(math.exp(value) for value in row))

    first = 2 * log_p([1, 2, 0, -1], 1) + 1 * log_p([0.5, 0, 0, 3], 3) + 1.5 * log_p([0, 0, 1, 0], 0)
    second = 2 * log_p([0, 1, 2, 3], 2) + 1.6 * log_p([2, 0, 0, 0], 0)

    assert weighted_loss(logits, targets, weights).item() == pytest.approx((-first / 3 - second / 2) / 2, rel=1e-5)
