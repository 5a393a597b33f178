"""Whatever a model writes becomes a complete ranking."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_server.types import Passage
from rerankers.permutation import Mentions, complete, in_order, parse_numbers


@pytest.mark.parametrize(
    ("output", "expected", "well_formed"),
    [
        ("[3] > [1] > [2]", [2, 0, 1], True),
        ("\n[3] > [1] > [2] ", [2, 0, 1], True),
        ("[2]", [1], True),
        ("[2] > [2] > [9]", [1, 1, 8], True),
        # The prompt ended in a bracket, or the model forgot it.
        ("3] > [1] > [2]", [2, 0, 1], False),
        ("3 > [1] > [2]", [2, 0, 1], False),
        ("3 > 1 > 2", [2, 0, 1], False),
        # Cut off in the middle of an identifier: what is not closed may be the beginning of another number.
        ("[3] > [1] > [2", [2, 0], False),
        # Numbered lines.
        ("1. [3]\n2. [1]\n3. [2]", [2, 0, 1], False),
        ("1. [3] > 2. [1] > 3. [2]", [2, 0, 1], False),
        ("1) [3] > 2) [1]", [2, 0], False),
        # Prose around it, and prose alone.
        ("100% of the 3 passages are included. [3] > [1] > [2]. I hope that helps!", [2, 0, 1], False),
        ("20 passages are provided.", [], False),
        ("I cannot rank these.", [], False),
        ("3, 1, 2", [2, 0, 1], False),
        ("3 1 2", [2, 0, 1], False),
        ("", [], False),
        ("[] > []", [], False),
        ("[0] > [-1] > [3]", [-1, 0, 2], False),
        ("<think>first [1], or rather [2]</think>[3] > [1]", [2, 0], True),
        (f"[{'9' * 5000}] > [2]", [1], False),
    ],
)
def test_numbers_are_read_as_a_person_would(output: str, expected: list[int], well_formed: bool) -> None:
    """Identifiers in brackets or in a chain count; numbers of lines, of prose, and those cut off do not."""
    assert parse_numbers(output) == Mentions(tuple(expected), well_formed)


def test_named_candidates_come_first_and_the_rest_keeps_its_order() -> None:
    """Repetitions and inventions are dropped, what is missing follows in the first stage's order."""
    permutation = complete(Mentions((3, 1, 3, 7, -1), well_formed=True), 5)

    assert permutation.order == (3, 1, 0, 2, 4)
    assert (permutation.num_named, permutation.repaired) == (2, True)


def test_only_what_had_to_be_cleaned_or_completed_counts_as_repaired() -> None:
    """A complete well-formed permutation is not repaired; one of the right length for `top_m` is not either."""
    assert not complete(Mentions((2, 0, 1), well_formed=True), 3).repaired
    assert not complete(Mentions((2,), well_formed=True), 3, num_wanted=1).repaired
    assert complete(Mentions((2, 0, 1), well_formed=False), 3).repaired
    assert complete(Mentions((2, 0), well_formed=True), 3).repaired
    assert complete(Mentions((2, 2), well_formed=True), 3, num_wanted=2).repaired


def test_no_more_than_the_wanted_are_taken() -> None:
    """With `top_m`, the candidates after the first m keep the first stage's order, also where the model wrote on."""
    assert complete(Mentions((3, 2, 1, 0), well_formed=True), 4, num_wanted=2).order == (3, 2, 0, 1)


PIECES = st.sampled_from(
    ["[", "]", " > ", ">", " ", "\n", ".", ",", "1", "2", "12", "99", "٣", "²", "-", "passage ", "</think>"]
)


@given(st.lists(PIECES, max_size=60).map("".join) | st.text(max_size=80), st.integers(0, 30), st.integers(1, 40))
def test_every_output_gives_every_candidate_once(output: str, num_candidates: int, num_wanted: int) -> None:
    """The order is a permutation for any output, and begins with the mentions that are valid."""
    mentions = parse_numbers(output)
    permutation = complete(mentions, num_candidates, num_wanted=num_wanted)

    assert sorted(permutation.order) == list(range(num_candidates))
    valid: list[int] = []
    for index in mentions.indices:
        if 0 <= index < num_candidates and index not in valid and len(valid) < num_wanted:
            valid.append(index)
    assert list(permutation.order[: permutation.num_named]) == valid


def test_passages_are_ranked_anew_and_keep_their_scores() -> None:
    """Ranks count from 1 in the new order; a passage never carries another one's score."""
    passages = [Passage(n, "d", "f", "a.md", "T", "x", 0, 1, score=n / 10, rank=n) for n in (1, 2, 3)]

    ordered = in_order(passages, (2, 0, 1))

    assert [(passage.id, passage.rank, passage.score) for passage in ordered] == [(3, 1, 0.3), (1, 2, 0.1), (2, 3, 0.2)]
