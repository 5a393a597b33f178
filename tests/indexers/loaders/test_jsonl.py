"""JSON lines: a document per row, a report per bad row, whatever the size."""

import gzip
import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexers.loaders import jsonl
from rag_server.errors import DocumentError
from rag_server.types import Document


def _ignore(read_bytes: int) -> None:
    """Stand in for a progress bar."""


def _load(folder: Path, data: bytes, name: str = "corpus.jsonl") -> list[Document | DocumentError]:
    path = folder / name
    path.write_bytes(data)
    return list(jsonl.load(path, _ignore))


def _row(folder: Path, row: dict[str, Any]) -> Document:
    (document,) = _load(folder, json.dumps(row).encode())
    assert isinstance(document, Document), document
    return document


def _report(folder: Path, line: bytes) -> str:
    """Return what is reported of the second of three lines, after its place."""
    first, error, last = _load(folder, b'{"text": "first"}\n' + line + b'\n{"text": "last"}\n')
    assert isinstance(first, Document)
    assert isinstance(last, Document)
    assert isinstance(error, DocumentError)
    message = str(error)
    assert message.startswith(f"{folder / 'corpus.jsonl'} line 2: ")
    assert "\n" not in message
    return message.removeprefix(f"{folder / 'corpus.jsonl'} line 2: ")


def test_a_row_is_a_document_with_its_other_fields_as_attributes(tmp_path: Path) -> None:
    """Scalars stay as they are, nested values become JSON, what is empty or not finite is dropped."""
    row = {"_id": "d1", "title": "T", "text": "x", "id": 5, "year": 1999, "score": 0.5, "open": True}
    row |= {
        "by": "é",
        "none": None,
        "metadata": {},
        "nan": float("nan"),
        "huge": float("inf"),
        "tags": ["é"],
        "map": {"a": [1]},
    }
    attributes: dict[str, str | float | bool] = {"id": 5, "year": 1999, "score": 0.5}
    attributes |= {"open": True, "by": "é", "tags": '["é"]', "map": '{"a": [1]}'}
    assert _row(tmp_path, row) == Document("d1", "T", "x", attributes)


@pytest.mark.parametrize(
    ("fields", "document_id"),
    [({"_id": 7}, "7"), ({"id": "a"}, "a"), ({"_id": None, "id": 0}, "0"), ({}, "line-1"), ({"_id": ""}, "line-1")],
)
def test_the_id_is_that_of_the_row_or_its_line(tmp_path: Path, fields: dict[str, Any], document_id: str) -> None:
    """`_id` comes first, then `id`; a number becomes text."""
    document = _row(tmp_path, {"text": "x"} | fields)
    assert document == Document(document_id, "", "x")


@pytest.mark.parametrize(("title", "expected"), [(1984, "1984"), (None, ""), ("T", "T")])
def test_a_title_may_be_a_number_or_absent(tmp_path: Path, title: object, expected: str) -> None:
    """No row is lost for the kind of its title."""
    assert _row(tmp_path, {"text": "x", "title": title}).title == expected


@pytest.mark.parametrize("text", ["", " \n"])
def test_a_row_with_only_a_title_has_the_title_as_its_text(tmp_path: Path, text: str) -> None:
    """Such a row can be found by its title."""
    assert _row(tmp_path, {"_id": "d", "title": "T", "text": text}) == Document("d", "T", "T")


def test_every_string_is_cleaned(tmp_path: Path) -> None:
    """What JSON's escapes can smuggle in would not be storable."""
    row = {"_id": "a\0", "title": "b\ud800", "text": "c\r\nd\0", "k\0": "e\udfff", "n": ["f\ud800"]}
    assert _row(tmp_path, row) == Document("a", "b", "c\nd", {"k": "e", "n": '["f"]'})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "a" "b"}', "not valid JSON (Expecting ',' delimiter)"),
        (b'{"text": "caf\xe9"}', "not valid UTF-8; save the file as UTF-8"),
        (b'["text"]', "the row is not a JSON object"),
        (b'{"body": "a"}', "the row has no field 'text'"),
        (b'{"text": null}', "the field 'text' is not a string"),
        (b'{"text": 5, "title": "T"}', "the field 'text' is not a string"),
        (b'{"text": " "}', "the row holds no text"),
        (b'{"text": "a", "_id": [1]}', "the field '_id' is not a string"),
        (b'{"text": "a", "id": true}', "the field 'id' is not a string"),
        (b'{"text": "a", "title": {}}', "the field 'title' is not a string"),
        (b'{"text": "a", "_id": "line-1"}', 'the id "line-1" stands in an earlier row; give each row its own'),
    ],
)
def test_a_bad_row_is_reported_and_its_neighbours_are_kept(tmp_path: Path, line: bytes, reason: str) -> None:
    """The report is a value, in the row's place, and names file, line and reason."""
    assert _report(tmp_path, line) == reason


@pytest.mark.parametrize("line", [b'{"text": "a", "n": ' + b"[" * 100_000, b'{"text": "a", "n": ' + b"9" * 5000 + b"}"])
def test_json_beyond_the_interpreters_limits_is_a_bad_row(tmp_path: Path, line: bytes) -> None:
    """Depth and digits without end do not stop the file."""
    assert _report(tmp_path, line).startswith("not usable JSON (")


def test_blank_lines_are_skipped_but_counted(tmp_path: Path) -> None:
    """A line number is that of an editor, with any line end, with a byte order mark and without a last newline."""
    data = b'\xef\xbb\xbf{"text": "a"}\r\n\r\n  \n{"text": "b"}'
    assert _load(tmp_path, data) == [Document("line-1", "", "a"), Document("line-4", "", "b")]


@pytest.mark.parametrize("data", [b"", b"\n \n"])
def test_a_file_without_rows_is_refused(tmp_path: Path, data: bytes) -> None:
    """An empty file is not indexed as nothing."""
    with pytest.raises(DocumentError, match=re.escape(f"{tmp_path / 'corpus.jsonl'} holds no text")):
        _load(tmp_path, data)


def test_a_utf_16_file_is_refused_once(tmp_path: Path) -> None:
    """Not one report per row."""
    with pytest.raises(DocumentError, match=r"corpus\.jsonl is UTF-16 or UTF-32; save it as UTF-8"):
        _load(tmp_path, '{"text": "a"}\n'.encode("utf-16"))


def test_a_compressed_file_gives_the_same_rows(tmp_path: Path) -> None:
    """Also when it consists of several gzip members."""
    parts = [b'{"text": "a"}\n{"te', b'xt": "b"}\n']
    expected = [Document("line-1", "", "a"), Document("line-2", "", "b")]
    assert _load(tmp_path, b"".join(map(gzip.compress, parts)), "corpus.jsonl.gz") == expected


@pytest.mark.parametrize("damage", ["cut", "garbled", "checksum", "not gzip"])
def test_broken_gzip_is_reported_after_the_rows_before_it(tmp_path: Path, damage: str) -> None:
    """The error names the file and is a DocumentError, although gzip's own is an OSError."""
    whole = gzip.compress(b"".join(b'{"text": "row %d"}\n' % number for number in range(50_000)))
    path = tmp_path / "corpus.jsonl.gz"
    garbled = whole + whole[:10] + b"\xff" * 50
    checksum = whole[:-8] + bytes(8)
    cut = whole[: len(whole) // 2]
    path.write_bytes({"cut": cut, "garbled": garbled, "checksum": checksum, "not gzip": b"plain"}[damage])
    rows: list[Document | DocumentError] = []
    with pytest.raises(DocumentError, match=r"corpus\.jsonl\.gz is not a readable gzip file \("):
        rows.extend(jsonl.load(path, _ignore))
    assert rows[:1] == ([] if damage == "not gzip" else [Document("line-1", "", "row 0")])


def test_a_line_without_end_is_an_error_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of the limit is read; one byte more would be kept in memory without bound."""
    limit = 1024**2
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", limit)
    line = b'{"text": "' + b"x" * (limit - 13) + b'"}\n'
    assert len(_load(tmp_path, line)) == 1
    with pytest.raises(DocumentError, match=r"corpus\.jsonl line 2 is longer than 1 MiB"):
        _load(tmp_path, line + b"x" + line)


@pytest.mark.parametrize("name", ["big.jsonl", "big.jsonl.gz"])
def test_a_large_file_streams_and_tells_its_progress(tmp_path: Path, name: str) -> None:
    """20 MB of rows never occupy more than a fraction of it, and the bytes told rise to the size of the file."""
    path = tmp_path / name
    digits = "".join(map(str, range(3000)))
    data = b"".join(json.dumps({"text": digits[row % 500 :] + str(row)}).encode() + b"\n" for row in range(2000))
    path.write_bytes(gzip.compress(data, 1) if name.endswith(".gz") else data)
    told: list[int] = []
    tracemalloc.start()
    count = sum(1 for _ in jsonl.load(path, told.append))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 2000
    assert peak_bytes < len(data) / 10
    assert told == sorted(told)
    assert told[-1] == path.stat().st_size
    assert len(told) >= path.stat().st_size // jsonl.BYTES_PER_REPORT


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    """The first row is there although the file cannot be read to its end."""
    path = tmp_path / "corpus.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "a"}\n') + b"garbage")
    assert next(jsonl.load(path, _ignore)) == Document("line-1", "", "a")


TEXTS = st.text(st.characters(exclude_categories=[]), max_size=9)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.text(max_size=2), SCALARS, max_size=2)
ROWS = st.dictionaries(st.sampled_from(["_id", "id", "title", "text", "other"]), VALUES)


@given(data=st.binary() | st.lists(ROWS, max_size=4).map(lambda rows: "\n".join(map(json.dumps, rows)).encode()))
def test_arbitrary_content_raises_only_document_errors(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Every line that is not blank is a document that can be stored or a report; ids are unique."""
    rows: list[Document | DocumentError] = []
    messages = []
    try:
        rows = _load(tmp_path_factory.mktemp("any"), data)
    except DocumentError as error:
        messages.append(str(error))
    documents = [row for row in rows if isinstance(row, Document)]
    messages += [str(row) for row in rows if isinstance(row, DocumentError)]
    assert not any("\n" in message for message in messages)
    assert len({document.document_id for document in documents}) == len(documents)
    for document in documents:
        assert document.text.strip()
        fields = [document.document_id, document.title, document.text, document.attributes]
        assert b"\\u0000" not in json.dumps(fields, allow_nan=False, ensure_ascii=False).encode()


@given(data=st.binary())
def test_arbitrary_compressed_bytes_raise_nothing_but_document_errors(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    """Neither random bytes nor a random tail after a good start get further."""
    for content in (data, gzip.compress(b'{"text": "a"}\n') + data):
        message = "any.jsonl.gz is read"
        try:
            _load(tmp_path_factory.mktemp("any"), content, "any.jsonl.gz")
        except DocumentError as error:
            message = str(error)
        assert "any.jsonl.gz" in message
