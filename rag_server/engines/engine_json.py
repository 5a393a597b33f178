"""Reads the JSON of engines so that it can be written again: without numbers that are none and without half characters."""

import json
import math
import re
from typing import Any

# Rare, and looking at each number costs more than looking for those that may be too large.
_MAYBE_INFINITE = re.compile(r"[eE]\+?\d{3}|\d{300}")
_MAYBE_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def parsed(content: str) -> Any:
    """Return the value; NaN and what is beyond a float are None, half of a surrogate pair is U+FFFD.

    Raises:
        ValueError: It is no JSON.
    """
    if not _MAYBE_INFINITE.search(content):
        value = json.loads(content, parse_constant=_no_number)
    else:
        value = json.loads(content, parse_constant=_no_number, parse_float=_finite)
    return _whole(value) if _MAYBE_HALF.search(content) else value


def _no_number(_: str) -> None:
    return None


def _finite(number: str) -> float | None:
    return None if math.isinf(float(number)) else float(number)


def _whole(value: Any) -> Any:
    text = json.dumps(value, ensure_ascii=False)
    return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
