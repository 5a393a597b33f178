"""The input of a batch: each line becomes a row or an error in OpenAI's words, and nothing that it holds costs much."""

import itertools
import json
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_server import batch_lines
from rag_server.api.json_bodies import check_json
from rag_server.batch_lines import BatchReader, request_text, row_key, split_lines
from rag_server.batch_types import BatchError, BatchRow

CHAT = "/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
LINE: dict[str, Any] = {"custom_id": "one", "method": "POST", "url": CHAT, "body": BODY}


def written(*lines: dict[str, Any] | str) -> bytes:
    return "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines).encode()


def reader(
    endpoint: str = CHAT, serves: Callable[[str], bool] | None = lambda model: model in ("m", "rag/docs"), limit: int = 10_000
) -> BatchReader:
    return BatchReader(endpoint, check=check_json, serves=serves, max_line_bytes=limit)


def read(*content: bytes, **how: Any) -> list[BatchRow | BatchError]:
    return list(reader(**how).read(content))


def test_lines_become_rows() -> None:
    """Numbered by their place in the file; the request is kept whole, and blank lines and a mark of the encoding are not."""
    other = {**BODY, "temperature": 0.5, "messages": [{"role": "user", "content": "Grüße 🦆"}]}
    content = b"\xef\xbb\xbf" + written(LINE, "", "  \r", {**LINE, "custom_id": "two", "body": other, "extra": 1}) + b"\r\n\n"

    found = read(content)

    assert [(row.number, row.custom_id, row.error) for row in found] == [(0, "one", None), (3, "two", None)]
    assert [json.loads(row.request) for row in found] == [
        {"method": "POST", "url": CHAT, "body": BODY},
        {"method": "POST", "url": CHAT, "body": other},
    ]
    assert found[1].request.isascii()


@pytest.mark.parametrize(
    ("line", "code", "param"),
    [
        ("{", "invalid_json_line", None),
        ("[]", "invalid_json_line", None),
        ("null", "invalid_json_line", None),
        ("[" * 100_000, "line_too_long", None),
        ("[" * 5000, "invalid_json_line", None),
        ('{"custom_id": "one", "n": NaN}', "invalid_json_line", None),
        ('{"custom_id": "one", "n": ' + "9" * 5000 + "}", "invalid_json_line", None),
        ('{"custom_id": "\\ud800"}', "invalid_json_line", None),
        ("\u2028{}x", "invalid_json_line", None),
        ({**LINE, "custom_id": None}, "missing_required_parameter", "custom_id"),
        ({name: value for name, value in LINE.items() if name != "custom_id"}, "missing_required_parameter", "custom_id"),
        ({**LINE, "custom_id": 7}, "missing_required_parameter", "custom_id"),
        ({**LINE, "custom_id": ""}, "invalid_custom_id", "custom_id"),
        ({**LINE, "custom_id": "x" * 513}, "invalid_custom_id", "custom_id"),
        ({**LINE, "custom_id": "a\0b"}, "invalid_custom_id", "custom_id"),
        ({name: value for name, value in LINE.items() if name != "method"}, "missing_required_parameter", "method"),
        ({**LINE, "method": "GET"}, "invalid_method", "method"),
        ({**LINE, "method": "post"}, "invalid_method", "method"),
        ({name: value for name, value in LINE.items() if name != "url"}, "missing_required_parameter", "url"),
        ({**LINE, "url": "/v1/embeddings"}, "url_mismatch", "url"),
        ({**LINE, "url": f"https://localhost{CHAT}"}, "url_mismatch", "url"),
        ({name: value for name, value in LINE.items() if name != "body"}, "missing_required_parameter", "body"),
        ({**LINE, "body": "Hello"}, "missing_required_parameter", "body"),
        ({**LINE, "body": {**BODY, "stream": True}}, "invalid_value", "body.stream"),
        ({**LINE, "body": {**BODY, "background": True}}, "invalid_value", "body.background"),
        ({**LINE, "body": {**BODY, "model": "missing"}}, "model_not_found", "body.model"),
        ({**LINE, "custom_id": "zero"}, "duplicate_custom_id", "custom_id"),
    ],
)
def test_a_faulty_line_is_named(line: dict[str, Any] | str, code: str, param: str | None) -> None:
    """With its number from 1, the field, and what to do; the lines around it are still read."""
    before, after = {**LINE, "custom_id": "zero"}, {**LINE, "custom_id": "last"}

    first, error, last = read(written(before, line, after))

    assert isinstance(error, BatchError)
    assert (error.code, error.line, error.param) == (code, 2, param)
    assert 0 < len(error.message) < 400
    assert (first.custom_id, last.custom_id, last.number) == ("zero", "last", 2)


def test_bytes_that_are_no_text_are_an_error_of_their_line() -> None:
    error, row = read(b"\xff\xfe\n" + written(LINE))

    assert (error.code, error.line, row.custom_id) == ("invalid_json_line", 1, "one")


@pytest.mark.parametrize("content", [b"", b"\n\n", b" \r\n\t\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_an_error(content: bytes) -> None:
    (error,) = read(content)

    assert (error.code, error.line, error.param) == ("empty_file", None, None)


def test_a_line_that_would_stream_may_say_that_it_does_not() -> None:
    (row,) = read(written({**LINE, "body": {**BODY, "stream": False}}))

    assert isinstance(row, BatchRow)


def test_models_are_not_looked_up_while_that_cannot_be() -> None:
    """What serves them may be down; rows without a model are refused by their endpoint."""
    unknown = {**LINE, "body": {**BODY, "model": "missing"}}
    without = {**LINE, "custom_id": "two", "body": {"messages": []}}

    assert all(isinstance(row, BatchRow) for row in read(written(unknown, without), serves=None))


def test_each_model_is_looked_up_once() -> None:
    asked = []

    def serves(model: str) -> bool:
        asked.append(model)
        return model == "m"

    other = {**BODY, "model": "x"}
    lines = [{**LINE, "custom_id": str(n), "body": BODY if n % 2 else other} for n in range(6)]

    found = read(written(*lines), serves=serves)

    assert asked == ["x", "m"]
    assert [isinstance(row, BatchError) for row in found] == [True, False] * 3


@pytest.mark.parametrize(("models", "expected"), [([], None), (["m", "m"], "m"), (["m", "rag/docs"], None)])
def test_the_model_of_a_batch_is_the_only_one(models: list[str], expected: str | None) -> None:
    reading = reader()
    lines = [{**LINE, "custom_id": str(n), "body": {**BODY, "model": model}} for n, model in enumerate(models)]

    list(reading.read([written(*lines)]))

    assert reading.model == expected


def test_too_many_requests_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as may be are taken, blank lines do not count, and after one more nothing is read."""
    monkeypatch.setattr(batch_lines, "MAX_ROWS", 3)
    lines = [json.dumps({**LINE, "custom_id": str(n)}) for n in range(5)]

    taken = read(written(lines[0], "", *lines[1:3], "", ""))
    refused = read(written(*lines))

    assert [type(one) for one in taken] == [BatchRow] * 3
    assert [type(one) for one in refused] == [BatchRow] * 3 + [BatchError]
    assert (refused[-1].code, refused[-1].line) == ("too_many_tasks", None)


def test_openais_limits() -> None:
    assert (batch_lines.MAX_ROWS, batch_lines.MAX_BYTES) == (50_000, 200 * 1024**2)


def test_a_file_that_is_too_large_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_lines, "MAX_BYTES", 400)

    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 100

    found = list(reader().read(endless()))

    assert [one.code for one in found] == ["file_too_large"]
    assert isinstance(read(written(LINE).ljust(400))[0], BatchRow)


def test_a_file_of_blank_lines_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_lines, "MAX_LINES", 1000)

    (error,) = read(b"\n" * 5000)

    assert error.code == "too_many_lines"


def test_embeddings_are_counted_by_their_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text, a list of texts, a list of tokens, and lists of tokens."""
    monkeypatch.setattr(batch_lines, "MAX_EMBEDDING_INPUTS", 6)
    inputs: list[Any] = ["a", ["a", "b"], [1, 2, 3], [[1], [2]], "b"]
    lines = [
        {"custom_id": str(n), "method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": one}}
        for n, one in enumerate(inputs)
    ]

    found = read(written(*lines), endpoint="/v1/embeddings")

    assert [type(one) for one in found] == [BatchRow] * 4 + [BatchError]
    assert (found[-1].code, found[-1].param, found[-1].line) == ("too_many_inputs", "body.input", 5)


def test_rows_that_ask_the_same_have_one_key() -> None:
    """The order of fields does not matter; everything else does."""
    turned = dict(reversed(BODY.items()))

    assert row_key(CHAT, BODY) == row_key(CHAT, turned)
    assert json.loads(request_text(CHAT, turned))["body"] == turned
    others = [row_key("/v1/responses", BODY), row_key(CHAT, {**BODY, "seed": 1}), row_key(CHAT, {**BODY, "seed": 1.5})]
    assert len({row_key(CHAT, BODY), *others}) == 4


def test_a_line_that_is_too_long_is_never_held() -> None:
    """What one line of a hostile file has beyond the limit takes no memory, however it comes."""
    limit = 1000

    def content() -> Iterator[bytes]:
        yield b"{" * 600
        for _ in range(200):
            yield b"x" * 100_000
        yield b"\n" + written(LINE) + b"\n"

    tracemalloc.start()
    try:
        found = list(split_lines(content(), limit))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert found == [(0, None), (1, written(LINE)), (2, b"")]
    assert peak < 1_000_000


@given(
    lines=st.lists(st.text(alphabet="ab{}\r\t é\u2028", max_size=8), max_size=8),
    cuts=st.lists(st.integers(0, 100), max_size=8),
    limit=st.integers(1, 12),
)
def test_lines_are_the_same_however_the_file_comes(lines: list[str], cuts: list[int], limit: int) -> None:
    """Line ends are those of JSON Lines alone; where the parts of the file end does not show."""
    content = "\n".join(lines).encode()
    places = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    parts = [content[start:end] for start, end in itertools.pairwise(places)]

    found = list(split_lines(parts, limit))

    expected = [None if len(line) > limit else line.strip(b" \t\r") for line in content.split(b"\n")]
    assert found == list(enumerate(expected))
