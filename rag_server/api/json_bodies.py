"""Looks at JSON before it is parsed: what is nested too deep, or cannot be stored or sent on, goes no further."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from rag_server.errors import InvalidJsonError

MAX_DEPTH = 64
# Each takes a hundred bytes and more once it is parsed, from as few as two of a body.
MAX_CONTAINERS = 100_000
# Each is hashed and looked at by name: a million take seconds, in which nobody else is served.
MAX_FIELDS = 100_000
# A million tokens of a prompt go through.
MAX_VALUES = 1_100_000
# What databases and engines hold: 64 bits with a sign.
MAX_INTEGER = 2**63 - 1
_MAX_INTEGER_DIGITS = len(str(MAX_INTEGER))

_BRACKETS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[{]}"))
# Numbers that may be too large: long ones, and those with an exponent of three digits.
_LARGE = re.compile(rb"(?<![\d.eE+-])-?(?:\d[\d.]{18,}+(?:[eE][+-]?\d++)?|\d[\d.]{0,17}[eE][+-]?\d{3,}+)")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_HALF = re.compile("[\ud800-\udfff]")
_LONE_SURROGATE = re.compile(
    rb"\A(?:[^\\]++|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\(?!u[dD][89a-fA-F]).)*+\\u[dD][89a-fA-F]", re.DOTALL
)


def check_json(body: bytes) -> None:
    """Refuse JSON that would break its parser, the store or the engine; it need not be right in any other way (RFC 8259).

    Raises:
        InvalidJsonError: It is not UTF-8, nested too deep, or holds too many values, half a character, or a number beyond
            what is one.
    """
    try:
        body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidJsonError("the body is not valid JSON: it is not UTF-8") from None
    if b"\0" in body:
        # It may be UTF-16, which looks different to what follows here.
        raise InvalidJsonError("the body is not valid JSON: it holds NUL bytes")
    bare = _without_strings(body)
    brackets = bare.translate(_BRACKETS, _NO_BRACKETS)
    if len(brackets) > 2 * MAX_CONTAINERS:
        raise InvalidJsonError(f"the body holds more than {MAX_CONTAINERS:,} arrays and objects; send less at a time")
    if bare.count(b":") > MAX_FIELDS:
        raise InvalidJsonError(f"the objects of the body hold more than {MAX_FIELDS:,} fields; send less at a time")
    # All but the first of an array or object follow a comma.
    if bare.count(b",") + len(brackets) // 2 > MAX_VALUES:
        raise InvalidJsonError(f"the body holds more than {MAX_VALUES:,} values; send less at a time")
    if _depth(brackets) > MAX_DEPTH:
        raise InvalidJsonError(f"the body is nested deeper than {MAX_DEPTH} levels")
    if _SURROGATE.search(body) and _LONE_SURROGATE.match(body):
        message = "a string holds half of a surrogate pair, such as \\ud800, which is no character"
        raise InvalidJsonError(message, _path_of_half_a_character(body))
    if b"N" in bare or b"I" in bare:
        raise InvalidJsonError("the body is not valid JSON: NaN and Infinity are no numbers of it")
    if any(_is_too_large(match.group()) for match in _LARGE.finditer(bare)):
        raise InvalidJsonError(
            f"a number is too large: integers are within 64 bits (at most {MAX_INTEGER}), others are below 1.8e308"
        )


def _without_strings(body: bytes) -> bytes:
    """Return what stands outside of strings; their closing quotes stay, so that nothing grows together."""
    # What is left of a run of backslashes escapes what follows it.
    unescaped = np.frombuffer(body.replace(b"\\\\", b"").replace(b'\\"', b""), dtype=np.uint8)
    # Only whether the number of quotes so far is odd counts, which an overflow does not change.
    quotes = (unescaped == ord('"')).cumsum(dtype=np.uint8)
    outside: bytes = unescaped[(quotes & 1) == 0].tobytes()
    return outside


def _depth(brackets: bytes) -> int:
    steps = np.frombuffer(brackets, dtype=np.int8)
    return int(steps.cumsum(dtype=np.int32).max(initial=0))


def _is_too_large(number: bytes) -> bool:
    digits = number.removeprefix(b"-")
    if digits.isdigit():
        # Only short ones are read: the time that takes grows with the square of their length.
        return len(digits) > _MAX_INTEGER_DIGITS or not -MAX_INTEGER - 1 <= int(number) <= MAX_INTEGER
    return math.isinf(_float(number))


def _float(number: bytes) -> float:
    try:
        return float(number)
    except ValueError:
        # No number at all, such as 1.2.3e400; that the parser says.
        return 0.0


def _path_of_half_a_character(body: bytes) -> str | None:
    """Return where it stands, as `documents.0`, or None where the body is no JSON."""
    try:
        return next(_halves(json.loads(body), ()), None)
    except ValueError:
        return None


def _halves(value: Any, path: tuple[str, ...]) -> Iterator[str]:
    if isinstance(value, str) and _HALF.search(value):
        yield ".".join(path)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _halves(item, (*path, str(number)))
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _halves(name, path)
            yield from _halves(item, (*path, name))
