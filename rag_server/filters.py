"""OpenAI's comparison and compound filters, read from JSON and checked; the store's `selection` applies them."""

import math
import re
from datetime import UTC, datetime
from typing import Any, TypeGuard, get_args

from rag_server.errors import InvalidAttributeError, InvalidFilterError
from rag_server.types import Comparison, ComparisonOperator, Compound, Filter, FilterValue

OPERATORS: tuple[str, ...] = get_args(ComparisonOperator)
ORDERED = ("gt", "gte", "lt", "lte")
MAX_DEPTH = 16
MAX_COMPARISONS = 256
# Of all comparisons together.
MAX_VALUES = 10_000
# A date, with or without a time; other strings that Python would take for a date are compared as text.
ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d{1,6})?)?(Z|[+-]\d{2}:?\d{2})?)?", re.IGNORECASE)
# What no database stores: NUL and lone surrogates.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
MAX_ATTRIBUTES = 16
MAX_KEY_CHARACTERS = 64
MAX_VALUE_CHARACTERS = 512


def parse_filter(body: object) -> Filter:
    """Return the filter that `body` says, such as {"type": "eq", "key": "year", "value": 2024}.

    Raises:
        InvalidFilterError: It is malformed; the message says where.
    """
    count = num_values = 0

    def parse(node: object, path: str, depth: int) -> Filter:
        nonlocal count, num_values
        if not isinstance(node, dict):
            raise InvalidFilterError(f"{path}: a filter is an object with a type", "filters")
        kind = node.get("type")
        if kind in ("and", "or"):
            parts = node.get("filters")
            if not isinstance(parts, list) or not parts:
                raise InvalidFilterError(f"{path}.filters: {kind} needs a list of at least one filter", "filters")
            if depth == MAX_DEPTH:
                raise InvalidFilterError(f"{path}: filters may be nested {MAX_DEPTH} deep", "filters")
            return Compound(kind, tuple(parse(part, f"{path}.filters[{n}]", depth + 1) for n, part in enumerate(parts)))
        count += 1
        if count > MAX_COMPARISONS:
            raise InvalidFilterError(f"a filter may compare {MAX_COMPARISONS} times", "filters")
        comparison = _comparison(node, path)
        num_values += len(comparison.value) if isinstance(comparison.value, tuple) else 1
        if num_values > MAX_VALUES:
            raise InvalidFilterError(f"a filter may compare with {MAX_VALUES:,} values in all", "filters")
        return comparison

    return parse(body, "filters", 1)


def parse_attributes(body: dict[str, Any]) -> dict[str, FilterValue]:
    """Return the attributes of a file as OpenAI limits them.

    Raises:
        InvalidAttributeError: There are too many, or one is too long or neither string, number nor boolean.
    """
    if len(body) > MAX_ATTRIBUTES:
        raise InvalidAttributeError(f"a file may have {MAX_ATTRIBUTES} attributes, not {len(body)}", "attributes")
    for key, value in body.items():
        if not 0 < len(key) <= MAX_KEY_CHARACTERS or UNSTORABLE.search(key):
            raise InvalidAttributeError(
                f"attribute {key[:80]!r}: a name has 1 to {MAX_KEY_CHARACTERS} characters, none of them NUL", "attributes"
            )
        if not _is_value(value):
            raise InvalidAttributeError(
                f"attribute {key!r} is neither a string, a finite number nor a boolean; write it as one of them", "attributes"
            )
        if isinstance(value, str) and len(value) > MAX_VALUE_CHARACTERS:
            raise InvalidAttributeError(f"attribute {key!r} is longer than {MAX_VALUE_CHARACTERS} characters", "attributes")
    return body


def instant(value: str) -> float | None:
    """Return the seconds since 1970 of an ISO 8601 date or time, taken as UTC where it names no zone; None for other text."""
    if ISO_DATE.fullmatch(value) is None:
        return None
    try:
        moment = datetime.fromisoformat(value.upper())
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _comparison(node: dict[str, Any], path: str) -> Comparison:
    operator, key, value = node.get("type"), node.get("key"), node.get("value")
    if operator not in OPERATORS:
        raise InvalidFilterError(f"{path}.type: {operator!r} is none of {', '.join((*OPERATORS, 'and', 'or'))}", "filters")
    if not isinstance(key, str) or not key or UNSTORABLE.search(key):
        raise InvalidFilterError(f"{path}.key: name an attribute", "filters")
    if operator in ("in", "nin"):
        if not isinstance(value, list) or not all(map(_is_value, value)):
            raise InvalidFilterError(f"{path}.value: {operator} needs a list of strings, numbers or booleans", "filters")
        return Comparison(operator, key, tuple(value))
    if not _is_value(value):
        raise InvalidFilterError(f"{path}.value: compare with a string, a finite number or a boolean", "filters")
    if operator in ORDERED and isinstance(value, bool):
        raise InvalidFilterError(f"{path}.value: {operator} needs a number, a date or a string, not a boolean", "filters")
    return Comparison(operator, key, value)


def _is_value(value: object) -> TypeGuard[FilterValue]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return math.isfinite(float(value))
        except OverflowError:
            return False
    return isinstance(value, bool) or (isinstance(value, str) and UNSTORABLE.search(value) is None)
