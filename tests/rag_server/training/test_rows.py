"""Rows that do not fit are told with their line, before anything is spent."""

import json
from pathlib import Path
from typing import Any

import pytest

from rag_server.errors import TrainingDataError
from rag_server.training.rows import read_rows

GOOD: dict[str, Any] = {
    "id": "1",
    "question": "When?",
    "answers": ["seven"],
    "passages": [{"text": "At seven.", "gold": True}],
}


def written(tmp_path: Path, *rows: Any) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_rows_are_read(tmp_path: Path) -> None:
    """Empty lines are nothing; a title may be missing."""
    rows = read_rows(written(tmp_path, GOOD, "", {**GOOD, "id": "2"}))

    assert [row.id for row in rows] == ["1", "2"]
    assert rows[0].passages[0].title == ""


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({key: value for key, value in GOOD.items() if key != "question"}, "question"),
        ({**GOOD, "question": "  "}, "question"),
        ({**GOOD, "answers": [""]}, "answers.0"),
        ({**GOOD, "passages": [{"text": "At seven."}]}, "no passage is gold"),
        ({**GOOD, "passages": []}, "no passage is gold"),
        ({**GOOD, "answers": []}, "no answer"),
        ({**GOOD, "extra": 1}, "extra"),
        ("{", "row"),
        (GOOD, "there twice"),
    ],
)
def test_what_does_not_fit_is_told_with_its_line(tmp_path: Path, row: Any, reason: str) -> None:
    """The line and the field are in the message."""
    with pytest.raises(TrainingDataError, match=rf"line 2: .*{reason}"):
        read_rows(written(tmp_path, GOOD, row))


def test_a_file_without_rows_is_an_error(tmp_path: Path) -> None:
    """Nothing, or no file at all."""
    with pytest.raises(TrainingDataError, match="no row"):
        read_rows(written(tmp_path, ""))
    with pytest.raises(TrainingDataError, match="cannot be read"):
        read_rows(tmp_path / "missing.jsonl")
