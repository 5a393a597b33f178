"""A constraint that makes a model's output a permutation of given items, and the tokens that it leaves open after each step."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice, pairwise
from typing import Any

# The key among a request's `vllm_xargs` that holds an encoded constraint.
REQUEST_FIELD = "rag_permutation"
MAX_ITEMS = 2_000
MAX_CHARACTERS = 1_000_000


@dataclass(frozen=True, slots=True)
class PermutationConstraint:
    """The output names `num_ranked` of the items, each at most once, and ends.

    `first` holds the token ids of each item where it begins the output, `later` those where it follows another item.

    Raises:
        ValueError: The outputs that it describes could not be told apart, or there are none.
    """

    first: tuple[tuple[int, ...], ...]
    later: tuple[tuple[int, ...], ...]
    num_ranked: int

    def __post_init__(self) -> None:
        num_items = len(self.first)
        if len(self.later) != num_items or not 1 <= num_items <= MAX_ITEMS:
            raise ValueError(f"{REQUEST_FIELD}: first and later must name the same items, from 1 to {MAX_ITEMS} of them")
        if not 1 <= self.num_ranked <= num_items:
            raise ValueError(f"{REQUEST_FIELD}: num_ranked must be from 1 to {num_items}, the number of items")
        for name, sequences in (("first", self.first), ("later", self.later)):
            if not all(sequences) or min(map(min, sequences)) < 0:
                raise ValueError(f"{REQUEST_FIELD}: every item of {name} needs one token id or more, none of them negative")
            # In lexical order, what begins with a sequence comes right after it.
            if any(after[: len(before)] == before for before, after in pairwise(sorted(sequences))):
                raise ValueError(f"{REQUEST_FIELD}: two items of {name} are equal, or one begins with the other")


def encode(constraint: PermutationConstraint) -> str:
    """Return the value of `REQUEST_FIELD`, which `decode` reads; JSON, since vLLM admits no nested lists there."""
    return json.dumps(asdict(constraint), separators=(",", ":"))


def decode(text: object) -> PermutationConstraint:
    """Return the constraint that a request carries.

    Raises:
        ValueError: It is not the JSON text of one.
    """
    if not isinstance(text, str) or len(text) > MAX_CHARACTERS:
        raise ValueError(f"{REQUEST_FIELD} must be a JSON text of at most {MAX_CHARACTERS} characters")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{REQUEST_FIELD} is not JSON") from error
    if not isinstance(fields, dict) or fields.keys() != {"first", "later", "num_ranked"} or not _is_int(fields["num_ranked"]):
        raise ValueError(f"{REQUEST_FIELD} must be an object of first, later and num_ranked, which is an integer")
    return PermutationConstraint(_sequences(fields["first"]), _sequences(fields["later"]), fields["num_ranked"])


def _sequences(value: Any) -> tuple[tuple[int, ...], ...]:
    if not isinstance(value, list) or not all(isinstance(row, list) and all(map(_is_int, row)) for row in value):
        raise ValueError(f"{REQUEST_FIELD}: first and later must be lists of lists of token ids")
    return tuple(map(tuple, value))


def _is_int(value: Any) -> bool:
    # For Python True is an integer, for JSON it is not.
    return type(value) is int


class PermutationState:
    """How far one output has come."""

    def __init__(self, constraint: PermutationConstraint, end_tokens: frozenset[int], vocab_size: int) -> None:
        """Begin an output.

        Args:
            constraint: What the output must be.
            end_tokens: The tokens that end it.
            vocab_size: An item with a token id that is not below it can never be named.
        """
        self._constraint = constraint
        self._end_tokens = sorted(end_tokens)
        written = zip(constraint.first, constraint.later, strict=True)
        self._items = [item for item, (first, later) in enumerate(written) if max(*first, *later) < vocab_size]
        self._restart()

    def _restart(self) -> None:
        self._num_read = 0
        self._num_named = 0
        self._unused = set(self._items)
        # The items that the tokens since the last complete item fit, and the number of those tokens; no item: the end is left.
        self._open = self._items
        self._depth = 0

    def allowed(self, output_tokens: Sequence[int]) -> list[int]:
        """Return the token ids that may come next, ascending.

        Once the items are named, and after a token that was not allowed, these are the end tokens. Where there are none the
        list is empty: nothing is constrained any more, and the request's `max_tokens` has to end the output.

        Args:
            output_tokens: All tokens of the output so far. They may have become fewer since the last call, and may end in
                negative placeholders of tokens that are not known yet.
        """
        if len(output_tokens) < self._num_read:
            self._restart()
        for token in islice(output_tokens, self._num_read, None):
            if token < 0:
                break
            self._read(token)
        if not self._open:
            return self._end_tokens
        return sorted({self._sequences[item][self._depth] for item in self._open})

    @property
    def _sequences(self) -> tuple[tuple[int, ...], ...]:
        return self._constraint.later if self._num_named else self._constraint.first

    def _read(self, token: int) -> None:
        self._num_read += 1
        sequences = self._sequences
        self._open = [item for item in self._open if sequences[item][self._depth] == token]
        self._depth += 1
        # No sequence begins with another, so that a complete one is the only one open.
        if self._open and len(sequences[self._open[0]]) == self._depth:
            self._unused.remove(self._open[0])
            self._num_named += 1
            self._depth = 0
            self._open = list(self._unused) if self._num_named < self._constraint.num_ranked else []
