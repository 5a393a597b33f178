"""Identifiers against real tokenizers of each kind."""

import pytest
from tokenizers import Tokenizer

from rag_server.errors import RerankError
from rerankers.identifiers import output_tokens, single_token_identifiers
from rerankers.listwise_format import CompactFormat, PaperFormat
from tests.rerankers.conftest import TokenizerEngine
from tests.rerankers.tokenizer_kinds import byte_level, characters, sentence_piece

KINDS = {"byte-level": byte_level(), "sentence-piece": sentence_piece()}


@pytest.mark.parametrize("kind", KINDS)
async def test_each_identifier_is_one_token_that_is_written_back_as_it_is(kind: str) -> None:
    """Every chosen word, its space before it, is a single token; text written token by token reads as the words."""
    tokenizer = KINDS[kind]

    chosen = await single_token_identifiers(TokenizerEngine(tokenizer), "test")

    space = tokenizer.encode("x", add_special_tokens=False).ids
    for word in chosen:
        assert len(tokenizer.encode(f"x {word}", add_special_tokens=False).ids) == len(space) + 1
    tokens = await output_tokens(TokenizerEngine(tokenizer), "test", CompactFormat(chosen), len(chosen))
    assert all(len(piece) == 1 for piece in tokens.later)
    assert tokenizer.decode([piece[0] for piece in tokens.later]).split() == chosen


async def test_words_of_several_tokens_are_not_chosen() -> None:
    """Of the pairs only those that the vocabulary holds are identifiers: brute force over all of them."""
    tokenizer = KINDS["byte-level"]
    candidates = [*map(chr, range(65, 91)), *(a + b for a in map(chr, range(65, 91)) for b in map(chr, range(65, 91)))]
    single = [word for word in candidates if len(tokenizer.encode(f" {word}", add_special_tokens=False).ids) == 1]

    assert await single_token_identifiers(TokenizerEngine(tokenizer), "test") == single
    assert 26 < len(single) < len(candidates)


async def test_tokenizer_without_such_identifiers_is_refused_by_name() -> None:
    """Where a letter with its space is two tokens, the remedy is the paper's format."""
    with pytest.raises(RerankError, match="RAG_RERANK__FORMAT=paper"):
        await single_token_identifiers(TokenizerEngine(characters()), "test")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_passages", [1, 9, 10, 11, 120])
async def test_bracketed_numbers_are_spelled_as_the_tokenizer_spells_them(kind: str, num_passages: int) -> None:
    """First and later pieces, put together in any order, decode to `[3] > [1] > ...`, and equal the tokens of that text."""
    tokenizer: Tokenizer = KINDS[kind]

    tokens = await output_tokens(TokenizerEngine(tokenizer), "test", PaperFormat(), num_passages)

    order = list(range(num_passages))[::-1]
    written = [*tokens.first[order[0]], *(token for index in order[1:] for token in tokens.later[index])]
    text = " > ".join(f"[{index + 1}]" for index in order)
    assert tokenizer.decode(written).strip() == text
    assert written == tokenizer.encode(text, add_special_tokens=False).ids
