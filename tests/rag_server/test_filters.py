"""Filters and attributes as clients write them: read as meant, or refused with the place of the fault."""

from datetime import UTC, datetime

import pytest

from rag_server.errors import InvalidAttributeError, InvalidFilterError
from rag_server.filters import MAX_COMPARISONS, MAX_DEPTH, MAX_VALUES, instant, parse_attributes, parse_filter
from rag_server.types import Comparison, Compound

YEAR = {"type": "eq", "key": "year", "value": 2024}


def nested(depth: int) -> dict:
    body = YEAR
    for _ in range(depth - 1):
        body = {"type": "and", "filters": [body]}
    return body


def test_filter_is_read_as_it_is_written() -> None:
    """Every operator, nested, with values of every type."""
    body = {
        "type": "or",
        "filters": [
            {"type": "and", "filters": [YEAR, {"type": "ne", "key": "ä", "value": True}]},
            {"type": "in", "key": "team", "value": ["red", 1, 2.5, False]},
            {"type": "nin", "key": "team", "value": []},
            *({"type": order, "key": "day", "value": "2024-01-01"} for order in ("gt", "gte", "lt", "lte")),
        ],
    }

    assert parse_filter(body) == Compound(
        "or",
        (
            Compound("and", (Comparison("eq", "year", 2024), Comparison("ne", "ä", True))),
            Comparison("in", "team", ("red", 1, 2.5, False)),
            Comparison("nin", "team", ()),
            *(Comparison(order, "day", "2024-01-01") for order in ("gt", "gte", "lt", "lte")),
        ),
    )


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (None, "filters: "),
        ([], "filters: "),
        ("x", "filters: "),
        ({}, "filters.type: "),
        ({**YEAR, "type": "is"}, "filters.type: 'is' is none of eq, ne, gt, gte, lt, lte, in, nin, and, or"),
        ({**YEAR, "type": None}, "filters.type: "),
        ({**YEAR, "type": ["eq"]}, "filters.type: "),
        ({"type": "eq", "value": 1}, "filters.key: "),
        ({**YEAR, "key": ""}, "filters.key: "),
        ({**YEAR, "key": "a\x00"}, "filters.key: "),
        ({**YEAR, "value": "a\x00"}, "filters.value: "),
        ({**YEAR, "value": "\ud800"}, "filters.value: "),
        ({**YEAR, "key": 1}, "filters.key: "),
        ({"type": "eq", "key": "a"}, "filters.value: "),
        ({**YEAR, "value": None}, "filters.value: "),
        ({**YEAR, "value": [1]}, "filters.value: "),
        ({**YEAR, "value": {}}, "filters.value: "),
        ({**YEAR, "value": float("nan")}, "filters.value: "),
        ({**YEAR, "value": float("-inf")}, "filters.value: "),
        ({**YEAR, "value": 10**400}, "filters.value: "),
        ({**YEAR, "type": "gt", "value": True}, "filters.value: gt needs"),
        ({**YEAR, "type": "in"}, "filters.value: in needs a list"),
        ({**YEAR, "type": "in", "value": "abc"}, "filters.value: in needs a list"),
        ({**YEAR, "type": "nin", "value": [1, None]}, "filters.value: nin needs a list"),
        ({**YEAR, "type": "in", "value": [[1]]}, "filters.value: in needs a list"),
        ({"type": "and"}, "filters.filters: "),
        ({"type": "and", "filters": []}, "filters.filters: "),
        ({"type": "or", "filters": {}}, "filters.filters: "),
        ({"type": "or", "filters": [YEAR, 1]}, r"filters.filters[1]: "),
        (
            {"type": "or", "filters": [YEAR, {"type": "and", "filters": [{**YEAR, "key": ""}]}]},
            "filters.filters[1].filters[0].key: ",
        ),
        (nested(MAX_DEPTH + 2), "may be nested"),
        (nested(2000), "may be nested"),
        ({"type": "or", "filters": [YEAR] * (MAX_COMPARISONS + 1)}, "may compare"),
        ({"type": "nin", "key": "year", "value": [1] * (MAX_VALUES + 1)}, "10,000 values in all"),
        ({"type": "or", "filters": [YEAR, {"type": "in", "key": "year", "value": [1] * MAX_VALUES}]}, "10,000 values in all"),
    ],
)
def test_malformed_filter_is_refused_with_the_place(body: object, place: str) -> None:
    """Whatever is wrong, the message says where, and the error names the field."""
    with pytest.raises(InvalidFilterError) as raised:
        parse_filter(body)

    assert place in str(raised.value)
    assert raised.value.param == "filters"


def test_filters_may_be_as_deep_and_as_many_as_is_said() -> None:
    """The bounds themselves are allowed."""
    parse_filter({"type": "or", "filters": [YEAR] * MAX_COMPARISONS})
    parse_filter({"type": "in", "key": "year", "value": [1] * MAX_VALUES})
    parse_filter(nested(MAX_DEPTH))


@pytest.mark.parametrize(
    "body",
    [
        {"": 1},
        {"k" * 65: 1},
        {"a": None},
        {"a": [1]},
        {"a": {}},
        {"a": float("inf")},
        {"a": float("nan")},
        {"a": 10**400},
        {"a": "x" * 513},
        {str(n): n for n in range(17)},
    ],
)
def test_attributes_beyond_openais_limits_are_refused(body: dict) -> None:
    """Sixteen attributes, names of up to 64 characters, strings of up to 512; nothing but strings, numbers, booleans."""
    with pytest.raises(InvalidAttributeError) as raised:
        parse_attributes(body)

    assert raised.value.param == "attributes"


def test_attributes_at_openais_limits_are_taken() -> None:
    """The bounds themselves are allowed, and values stay as they are."""
    body = {**{str(n): n for n in range(12)}, "k" * 64: "x" * 512, "a": True, "b": -1.5, "c": ""}

    assert parse_attributes(body) == body


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-02-29", datetime(2024, 2, 29, tzinfo=UTC)),
        ("2024-02-29T12:30", datetime(2024, 2, 29, 12, 30, tzinfo=UTC)),
        ("2024-02-29 12:30:15.5", datetime(2024, 2, 29, 12, 30, 15, 500_000, tzinfo=UTC)),
        ("2024-02-29t12:30:15z", datetime(2024, 2, 29, 12, 30, 15, tzinfo=UTC)),
        ("2024-02-29T01:30:00+05:30", datetime(2024, 2, 28, 20, tzinfo=UTC)),
        ("2024-02-28T20:00-0800", datetime(2024, 2, 29, 4, tzinfo=UTC)),
        ("1901-01-01", datetime(1901, 1, 1, tzinfo=UTC)),
    ],
)
def test_date_is_an_instant(text: str, moment: datetime) -> None:
    """A date is the instant that it begins, in UTC where it says no zone."""
    assert instant(text) == moment.timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024",
        "20240229",
        "2024-W01",
        "2024-060",
        "2024-02-30",
        "2023-02-29",
        "2024-2-9",
        "2024-02-29x",
        "x2024-02-29",
        "2024-02-29T25:00",
        "2024-02-29T12",
        "２０２４-02-29",
        "12:30",
        "2024-02-29\n",
    ],
)
def test_other_text_is_no_date(text: str) -> None:
    """What is not written as a date, or is no day of the calendar, is text."""
    assert instant(text) is None
