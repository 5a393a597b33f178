"""JSON before it is parsed: what would break the parser, the store or the engine goes no further, everything else does."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_server.api.json_bodies import MAX_DEPTH, check_json
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
