"""JSON before it is parsed: what would break the parser, the store or the engine goes no further, everything else does."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_server.api import json_bodies
from rag_server.api.json_bodies import MAX_CONTAINERS, MAX_DEPTH, MAX_FIELDS, MAX_VALUES, check_json
from rag_server.errors import InvalidJsonError

TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.text(alphabet='"\\[]{}NI9u\n')
SCALARS = st.none() | st.booleans() | TEXT | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20)


def is_refused(body: bytes) -> bool:
    try:
        check_json(body)
    except InvalidJsonError:
        return True
    return False


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(VALUES, st.booleans())
def test_what_json_writes_is_let_through(value: Any, as_ascii: bool) -> None:
    """Any value of JSON, written with or without escapes, is taken."""
    assert not is_refused(json.dumps(value, ensure_ascii=as_ascii).encode())


@given(VALUES, st.integers(0, 2 * MAX_DEPTH), st.sampled_from(["[{}]", '{{"a": {}}}', '{{"[": {}}}']))
def test_depth_is_that_of_the_parsed_value(value: Any, levels: int, shape: str) -> None:
    """Brackets count where they are brackets: as deep as the value is once it is parsed, and no deeper than allowed."""
    body = json.dumps(value)
    for _ in range(levels):
        body = shape.format(body)

    assert is_refused(body.encode()) == (depth(json.loads(body)) > MAX_DEPTH)


def counts(value: Any) -> tuple[int, int, int]:
    """Return the number of arrays and objects, of fields, and of what they hold, an empty one counted as if it held one."""
    if not isinstance(value, dict | list):
        return 0, 0, 0
    inner = [counts(item) for item in (value.values() if isinstance(value, dict) else value)]
    fields = len(value) if isinstance(value, dict) else 0
    own = (1, fields, max(1, len(value)))
    return tuple(map(sum, zip(own, *inner, strict=True)))


@given(VALUES, st.integers(0, 8), st.integers(0, 8), st.integers(0, 20))
def test_number_of_values_is_that_of_the_parsed_value(
    value: Any, max_containers: int, max_fields: int, max_values: int
) -> None:
    """Brackets, colons and commas count where they part values, not where they stand in strings."""
    containers, fields, values = counts(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_bodies, "MAX_CONTAINERS", max_containers)
        patch.setattr(json_bodies, "MAX_FIELDS", max_fields)
        patch.setattr(json_bodies, "MAX_VALUES", max_values)
        expected = containers > max_containers or fields > max_fields or values > max_values

        assert is_refused(json.dumps(value).encode()) == expected


@pytest.mark.parametrize("unit", ["[]", "{}", '{"a":1}', "0", '""', "[[]]"])
def test_small_body_of_many_values_is_refused(unit: str) -> None:
    """Eight mebibytes would be hundreds once they are parsed, and nobody else would be served meanwhile."""
    body = b'{"model": "m", "x": [' + b",".join([unit.encode()] * (8 * 1024**2 // (len(unit) + 1))) + b"]}"

    assert is_refused(body)


def test_a_million_tokens_and_many_messages_go_through() -> None:
    """What a prompt may hold, and the bounds themselves."""
    assert not is_refused(json.dumps({"model": "m", "prompt": [50_000] * 1_000_000}).encode())
    # The object, its list, and the messages; commas part them from each other.
    assert not is_refused(json.dumps({"messages": [{}] * (MAX_CONTAINERS - 2)}).encode())
    assert is_refused(json.dumps({"messages": [{}] * (MAX_CONTAINERS - 1)}).encode())
    assert not is_refused(json.dumps(dict.fromkeys(range(MAX_FIELDS))).encode())
    assert is_refused(json.dumps(dict.fromkeys(range(MAX_FIELDS + 1))).encode())
    assert not is_refused(json.dumps([0] * MAX_VALUES).encode())
    assert is_refused(json.dumps([0] * (MAX_VALUES + 1)).encode())


@given(st.text(st.sampled_from(["\\", "\ud83d", "\ude00", "a", '"', "\x00"])))
def test_half_a_character_is_refused_wherever_it_stands(text: str) -> None:
    """A string is taken if and only if it can be written as UTF-8 once it is parsed."""
    body = json.dumps([text]).encode()
    parsed = json.loads(body)[0]

    assert is_refused(body) == any(0xD800 <= ord(character) <= 0xDFFF for character in parsed)


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,400})(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,4})?", fullmatch=True))
def test_number_is_taken_if_a_float_holds_it(number: str) -> None:
    """Numbers with a point or an exponent are taken if they are finite, integers if they fit into 64 bits."""
    is_integer = number.removeprefix("-").isdigit()
    expected = not -(2**63) <= int(number) < 2**63 if is_integer else math.isinf(float(number))

    assert is_refused(f'{{"n": [{number}, 1]}}'.encode()) == expected


@pytest.mark.parametrize("body", [b"NaN", b'{"a": -Infinity}', b'[1, Infinity, "x"]'])
def test_what_python_reads_but_json_has_not_is_refused(body: bytes) -> None:
    """The parser would take them, the engine and the database would not."""
    json.loads(body)

    assert is_refused(body)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(["[" * 100]).encode("utf-16-le"),
        json.dumps({"a": "\u2200"}).encode("utf-16"),
        json.dumps([1]).encode("utf-32"),
        b'"\xed\xa0\x80"',
        b'"\xff"',
    ],
)
def test_other_encodings_are_refused(body: bytes) -> None:
    """Python's parser guesses UTF-16 and UTF-32, and takes encoded surrogates; what was checked would not be what is read."""
    assert is_refused(body)


@pytest.mark.parametrize("body", [b"", b"{", b'"', b'"\\', b"[1,,]", b"\xef\xbb\xbf{}", b"]]]]", b'{"a":"b', b"1.2.3e400"])
def test_what_is_only_malformed_is_left_to_the_parser(body: bytes) -> None:
    """It says better what is wrong and where."""
    assert not is_refused(body)
