"""Finds out from the engine's tokenizer how identifiers are written: which are single tokens, and which tokens they are."""

import itertools
import string
from collections.abc import Sequence

from rag_server.errors import EngineProtocolError, EngineRequestError, RerankError
from rag_server.protocols import Engine
from rerankers.listwise_format import ListwiseFormat
from rerankers.permutation_constraint import PermutationConstraint

# How tokenizers show the space before a word: byte-level BPE, SentencePiece, and those that show the text itself.
_SPACES = "Ġ▁ "
# Stands before what is asked about, since the first word of a text is a token of its own kind.
_BEFORE = "x"
MIN_IDENTIFIERS = 20

Token = tuple[int, str]


async def single_token_identifiers(engine: Engine, model: str) -> list[str]:
    """Return the words A, B, ..., AA, AB, ..., ZZ that the model's tokenizer writes, with the space before them, as one token.

    They are found in one text of all of them and proven in a text of the chosen ones alone.

    Raises:
        RerankError: There are fewer than 20, the proof fails, or the engine does not tell its tokens.
    """
    letters = string.ascii_uppercase
    candidates = [*letters, *map("".join, itertools.product(letters, repeat=2))]
    words = _words(await _tokens_after(engine, model, "".join(f" {word}" for word in candidates)))
    single = {word[0][1].lstrip(_SPACES) for word in words if len(word) == 1}
    chosen = [candidate for candidate in candidates if candidate in single]
    proof = await _tokens_after(engine, model, "".join(f" {word}" for word in chosen))
    if len(chosen) < MIN_IDENTIFIERS or [text.lstrip(_SPACES) for _, text in proof] != chosen:
        raise RerankError(
            f"the tokenizer of {model} has no {MIN_IDENTIFIERS} single-token identifiers, which the compact format needs; "
            "set RAG_RERANK__FORMAT=paper"
        )
    return chosen


async def output_tokens(engine: Engine, model: str, form: ListwiseFormat, num_passages: int) -> PermutationConstraint:
    """Return how the model writes each candidate, first and after another one, for rankings of all candidates.

    Raises:
        RerankError: The tokens of one candidate run into those of the next, so that they cannot be told apart, or the engine
            does not tell its tokens.
    """
    tokens = await _tokens_after(engine, model, "".join(form.separated(index) for index in range(num_passages)))
    separator = form.separator
    pieces = _words(tokens) if separator is None else _split(tokens, [separator in text for _, text in tokens])
    if len(pieces) != num_passages:
        raise RerankError(
            f"the tokenizer of {model} joins neighbouring identifiers; set RAG_RERANK__DECODING=structured or free"
        )
    later = tuple(tuple(token for token, _ in piece) for piece in pieces)
    if separator is None:
        return PermutationConstraint(later, later, num_passages)
    bracket = await _tokenize(engine, model, "[")
    return PermutationConstraint(tuple(_as_first(piece, bracket) for piece in pieces), later, num_passages)


async def _tokens_after(engine: Engine, model: str, text: str) -> list[Token]:
    """Return the tokens of a text that follows another."""
    before = await _tokenize(engine, model, _BEFORE)
    tokens = await _tokenize(engine, model, _BEFORE + text)
    if tokens[: len(before)] != before:
        raise RerankError(f"the tokenizer of {model} joins identifiers with the text before them")
    return tokens[len(before) :]


async def _tokenize(engine: Engine, model: str, text: str) -> list[Token]:
    try:
        return await engine.tokenize(model, text)
    except (EngineRequestError, EngineProtocolError) as error:
        raise RerankError(
            f"the engine does not tell the tokens of {model} at /tokenize ({error}), which vLLM does; without it, set "
            "RAG_RERANK__FORMAT=paper and RAG_RERANK__DECODING=structured or free"
        ) from error


def _words(tokens: Sequence[Token]) -> list[list[Token]]:
    """Return the tokens by word: a word begins with a token that shows a space."""
    return _split(tokens, [text[:1] in _SPACES for _, text in tokens])


def _split(tokens: Sequence[Token], begins: Sequence[bool]) -> list[list[Token]]:
    pieces: list[list[Token]] = []
    for token, begins_one in zip(tokens, begins, strict=True):
        if begins_one or not pieces:
            pieces.append([])
        pieces[-1].append(token)
    return pieces


def _as_first(piece: Sequence[Token], bracket: Sequence[Token]) -> tuple[int, ...]:
    """Return the tokens of ` > [3]` less ` >`, with the bracket as it is written at the beginning of a text."""
    rest = list(piece[1:])
    if len(bracket) == 1 and rest and rest[0][1].lstrip(_SPACES) == "[":
        rest[0] = bracket[0]
    return tuple(token for token, _ in rest)
