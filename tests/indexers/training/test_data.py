"""The training data's form, and what is said of data that does not fit."""

import json
from pathlib import Path
from typing import Any

import pytest

from indexers.training.data import Example, check_not_measured, read_examples, read_passages
from rag_server.errors import TrainingDataError

ROW = {"query": "Where is Ada?", "positives": ["Ada is in London."]}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def test_examples_are_read(tmp_path: Path) -> None:
    """Each line is an example, trimmed; negatives may be left out, and empty lines are passed over."""
    path = write(tmp_path / "a.jsonl", ROW, "", {**ROW, "query": " Who? ", "negatives": ["Nobody."]})

    assert read_examples(path) == [
        Example(query="Where is Ada?", positives=("Ada is in London.",)),
        Example(query="Who?", positives=("Ada is in London.",), negatives=("Nobody.",)),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"positives": ["x"]}, "query: Field required"),
        ({"query": "x"}, "positives: Field required"),
        ({"query": "x", "positives": []}, "positives: .*at least 1 item"),
        ({"query": "x", "positives": [""]}, "positives.0: .*at least 1 character"),
        ({"query": "  ", "positives": ["x"]}, "query: .*at least 1 character"),
        ({**ROW, "negatives": ["ada is  in london."]}, "both positive and negative"),
        ({**ROW, "negative": ["x"]}, "negative: Extra inputs"),
        ({"query": 1, "positives": "x"}, "query: .*string"),
        ("{", "Invalid JSON"),
        ("[]", "row: "),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, row: Any, message: str) -> None:
    """A row that does not fit is an error that names the file, the line and the field."""
    path = write(tmp_path / "a.jsonl", ROW, row)
    with pytest.raises(TrainingDataError, match=rf"a\.jsonl line 2: .*{message}"):
        read_examples(path)


def test_bad_files_are_named(tmp_path: Path) -> None:
    """A file that is missing, empty or no text is an error that names it."""
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    for name, message in (("missing", "cannot be read"), ("binary", "cannot be read")):
        with pytest.raises(TrainingDataError, match=rf"{name}\.jsonl {message}"):
            read_examples(tmp_path / f"{name}.jsonl")
    with pytest.raises(TrainingDataError, match=r"empty\.jsonl holds no row"):
        read_examples(write(tmp_path / "empty.jsonl"))
    with pytest.raises(TrainingDataError, match=r"b\.jsonl line 1: text: Field required"):
        read_passages(write(tmp_path / "b.jsonl", ROW))


def test_queries_that_are_measured_with_are_refused(tmp_path: Path) -> None:
    """A query that the evaluation asks, in whatever case and spacing, must not be trained on; other queries may be."""
    examples = [Example(**ROW)]
    check_not_measured(examples, write(tmp_path / "other.jsonl", {"query": "Where is Bob?", "_id": 1}))
    with pytest.raises(TrainingDataError, match="is both trained on and measured with"):
        check_not_measured(examples, write(tmp_path / "same.jsonl", {"query": "where  is ADA?"}))
