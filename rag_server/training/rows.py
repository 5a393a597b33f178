"""Training rows of the answerer: questions with their answers and passages, JSON Lines, checked before anything is spent."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, model_validator

from rag_server.errors import TrainingDataError

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class RowPassage(BaseModel):
    """A passage; `gold` where the answer rests on it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = ""
    text: Text
    gold: bool = False


class Row(BaseModel):
    """A question. The first answer is learned; all of them say which passages cannot serve as distractors.

    A row without answers is to be refused: its passages do not answer it. `reasoning`, if there is any, is written before the
    answer where the run asks for it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Text
    question: Text
    answers: tuple[Text, ...] = ()
    passages: tuple[RowPassage, ...] = ()
    reasoning: Text | None = None

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> "Row":
        if self.answers and not any(passage.gold for passage in self.passages):
            raise ValueError("no passage is gold, so that the answer would be learned without a source")
        if not self.answers and any(passage.gold for passage in self.passages):
            raise ValueError("a passage is gold, but there is no answer")
        return self


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file.

    Raises:
        TrainingDataError: The file cannot be read, is empty, holds a row that does not fit, or an id twice.
    """
    rows: dict[str, Row] = {}
    for number, line in _lines(path):
        try:
            row = Row.model_validate_json(line)
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'row'}: {fault['msg']}" for fault in error.errors())
            raise TrainingDataError(f"{path} line {number}: {faults}") from None
        if row.id in rows:
            raise TrainingDataError(f"{path} line {number}: the id {row.id!r} is there twice")
        rows[row.id] = row
    if not rows:
        raise TrainingDataError(f"{path} holds no row")
    return list(rows.values())


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from ((number, line) for number, line in enumerate(file, start=1) if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingDataError(f"{path} cannot be read: {error}") from error
