"""The permutation constraint: its text in a request, and the tokens that it leaves open."""

import itertools
import json
import random
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankers.permutation_constraint import MAX_CHARACTERS, MAX_ITEMS, PermutationConstraint, PermutationState, decode, encode

# Every character is a token, its code the id: each identifier is several tokens, and 1, 11 and 111 begin alike.
VOCAB_SIZE = 128
END = 3


def paper_form(numbers: list[int], num_ranked: int) -> PermutationConstraint:
    """Return the constraint of outputs such as `[2] > [11]`."""
    first = tuple(tuple(f"[{number}]".encode()) for number in numbers)
    later = tuple(tuple(f" > [{number}]".encode()) for number in numbers)
    return PermutationConstraint(first, later, num_ranked)


def decode_greedily(state: PermutationState, scores: random.Random, max_tokens: int = 2000) -> list[int]:
    """Return the output, without its end token, of a model with random logits."""
    output: list[int] = []
    while len(output) < max_tokens:
        token = max(state.allowed(output), key=lambda _: scores.random())
        if token == END:
            break
        output.append(token)
    return output


def new_state(constraint: PermutationConstraint, end_tokens: tuple[int, ...] = (END,)) -> PermutationState:
    return PermutationState(constraint, frozenset(end_tokens), VOCAB_SIZE)


numbered = st.lists(st.integers(1, 120), min_size=1, max_size=30, unique=True)


@given(numbered, st.data(), st.randoms(use_true_random=False))
def test_whatever_the_logits_an_output_is_a_ranking(numbers: list[int], data: st.DataObject, scores: random.Random) -> None:
    """Greedy decoding gives `num_ranked` different items in the form asked for, and then the end."""
    num_ranked = data.draw(st.integers(1, len(numbers)))
    text = bytes(decode_greedily(new_state(paper_form(numbers, num_ranked)), scores)).decode()
    named = [int(number) for number in re.findall(r"\d+", text)]

    assert re.fullmatch(r"\[\d+\]( > \[\d+\])*", text)
    assert len(named) == len(set(named)) == num_ranked
    assert set(named) <= set(numbers)


@given(
    st.lists(st.sampled_from([1, 11, 111, 12, 2, 21]), min_size=1, max_size=4, unique=True),
    st.data(),
    st.randoms(use_true_random=False),
)
def test_nothing_else_is_ruled_out(numbers: list[int], data: st.DataObject, scores: random.Random) -> None:
    """After each token, what is allowed is what continues one of the rankings that there are, all of them written out."""
    num_ranked = data.draw(st.integers(1, len(numbers)))
    orders = itertools.permutations(numbers, num_ranked)
    rankings = [[*" > ".join(f"[{number}]" for number in order).encode(), END] for order in orders]
    state, output = new_state(paper_form(numbers, num_ranked)), []
    for length in itertools.count():
        expected = {ranking[length] for ranking in rankings if ranking[:length] == output}
        assert state.allowed(output) == sorted(expected)
        output = [*output, scores.choice(sorted(expected))]
        if output[-1] == END:
            break


def test_single_tokens_are_crossed_off() -> None:
    """Where every identifier is one token, the allowed ones are those not used yet, and after the last one the ends."""
    items = ((40,), (20,), (30,))
    state = new_state(PermutationConstraint(items, items, 2), end_tokens=(9, 5))

    assert state.allowed([]) == [20, 30, 40]
    assert state.allowed([30]) == [20, 40]
    assert state.allowed([30, 40]) == [5, 9]
    assert state.allowed([30, 40, 9]) == [5, 9]


@given(numbered, st.randoms(use_true_random=False))
def test_resumed_output_goes_on_as_if_it_had_not_stopped(numbers: list[int], scores: random.Random) -> None:
    """A new state that is handed the tokens so far allows what the old one does; so does one whose tokens were taken back."""
    constraint = paper_form(numbers, len(numbers))
    output = decode_greedily(new_state(constraint), scores)
    cut = scores.randrange(len(output) + 1)
    followed, taken_back = new_state(constraint), new_state(constraint)
    for length in range(cut + 1):
        allowed = followed.allowed(output[:length])
    taken_back.allowed(output)

    assert new_state(constraint).allowed(output[:cut]) == allowed
    assert taken_back.allowed(output[:cut]) == allowed


def test_placeholder_is_a_token_not_known_yet() -> None:
    """A placeholder at the end is not read, and the token that later stands in its place is."""
    state = new_state(paper_form([1, 2], 2))
    output = [*b"[2", -1]

    assert state.allowed(output) == [ord("]")]
    output[-1] = ord("]")
    assert state.allowed(output) == [ord(" ")]


def test_output_that_left_the_constraint_may_only_end() -> None:
    """A token that was forced upon the output against the constraint ends it, and nothing after it changes that."""
    state = new_state(paper_form([1, 2], 2))

    assert state.allowed([*b"[1] > x"]) == [END]
    assert state.allowed([*b"[1] > x[2]"]) == [END]


def test_without_end_tokens_the_constraint_is_lifted_at_the_end() -> None:
    """Where no token ends an output, nothing is ruled out once the items are named."""
    state = new_state(paper_form([1], 1), end_tokens=())

    assert state.allowed([*b"[1"]) == [ord("]")]
    assert state.allowed([*b"[1]"]) == []


def test_item_outside_the_vocabulary_is_never_named() -> None:
    """An id that the model has no logit for is never looked up; the output ends when the other items are named."""
    items = ((4,), (VOCAB_SIZE,), (5,))
    state = new_state(PermutationConstraint(items, items, 3))

    assert state.allowed([]) == [4, 5]
    assert state.allowed([5, 4]) == [END]
    assert new_state(PermutationConstraint(((10**12,),), ((1,),), 1)).allowed([]) == [END]


@given(numbered, st.data())
def test_request_carries_the_constraint(numbers: list[int], data: st.DataObject) -> None:
    """What is encoded is decoded."""
    constraint = paper_form(numbers, data.draw(st.integers(1, len(numbers))))

    assert decode(encode(constraint)) == constraint


def test_paper_form_of_the_most_items_fits() -> None:
    """The largest constraint that is allowed is not refused for the length of its text."""
    constraint = paper_form(list(range(1, MAX_ITEMS + 1)), MAX_ITEMS)

    assert decode(encode(constraint)) == constraint
    with pytest.raises(ValueError, match="from 1 to 2000"):
        paper_form(list(range(1, MAX_ITEMS + 2)), MAX_ITEMS)


VALID = {"first": [[1], [2, 3]], "later": [[4, 1], [4, 2]], "num_ranked": 2}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_ranked": 0}, "num_ranked must be from 1 to 2"),
        ({"num_ranked": 3}, "num_ranked must be from 1 to 2"),
        ({"num_ranked": True}, "which is an integer"),
        ({"num_ranked": 1.0}, "which is an integer"),
        ({"num_ranked": None}, "which is an integer"),
        ({"more": 1}, "an object of first, later and num_ranked"),
        ({"first": []}, "the same items"),
        ({"first": [], "later": []}, "from 1 to"),
        ({"first": [[1]]}, "the same items"),
        ({"first": [[1], []]}, "one token id or more"),
        ({"first": [[1], [-2]]}, "none of them negative"),
        ({"later": [[4, -1], [5]]}, "none of them negative"),
        ({"first": [[1], [1]]}, "equal"),
        ({"first": [[2], [2, 3]]}, "begins with"),
        ({"later": [[4, 2, 7], [4, 2]]}, "begins with"),
        ({"first": [1, 2]}, "lists of lists"),
        ({"first": "12"}, "lists of lists"),
        ({"first": {"0": [1], "1": [2]}}, "lists of lists"),
        ({"first": [[1], ["2"]]}, "lists of lists"),
        ({"first": [[1], [2.0]]}, "lists of lists"),
        ({"first": [[0], [True]]}, "lists of lists"),
        ({"later": [[[1]], [2]]}, "lists of lists"),
    ],
)
def test_malformed_constraint_is_refused(changed: dict[str, object], message: str) -> None:
    """Each fault of an otherwise valid constraint is refused, with words for it."""
    assert decode(json.dumps(VALID)).num_ranked == 2
    with pytest.raises(ValueError, match=message) as caught:
        decode(json.dumps(VALID | changed))

    assert str(caught.value).startswith("rag_permutation")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "no JSON",
        "[" * 100_000,
        '{"first": [[' + "9" * 5_000 + ']], "later": [[1]], "num_ranked": 1}',
        '{"first": [[1]], "later": [[1]], "num_ranked": 1}' + " " * MAX_CHARACTERS,
        '{"first": [[NaN]], "later": [[1]], "num_ranked": 1}',
        "null",
        "[]",
        "{}",
        None,
        7,
        ["rag_permutation"],
    ],
    ids=lambda value: str(value)[:12],
)
def test_hostile_text_is_refused(value: object) -> None:
    """What is no JSON text of a constraint, is nested without end or enormous, is refused as a wrong value."""
    with pytest.raises(ValueError, match="rag_permutation"):
        decode(value)


def test_constraint_is_checked_where_it_is_made() -> None:
    """The side that sends a constraint learns of a fault as the side that receives it does."""
    with pytest.raises(ValueError, match="num_ranked must be from 1 to 3"):
        replace(paper_form([1, 2, 3], 3), num_ranked=4)


def test_module_is_light() -> None:
    """vLLM's front end, which imports the module, gets nothing but the standard library with it."""
    code = "import sys; before = set(sys.modules); import rerankers.permutation_constraint; print(set(sys.modules) - before)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    roots = {name.partition(".")[0] for name in re.findall(r"'([\w.]+)'", output)}

    assert roots - set(sys.stdlib_module_names) == {"rerankers"}
