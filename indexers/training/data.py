"""Training examples of the embedder: queries with right and wrong passages, JSON Lines, checked before anything is spent."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from rag_server.errors import TrainingDataError
from rag_server.learning.splits import check_no_leak, content_hash

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Example(BaseModel):
    """A query, the passages that are right for it (at least one), and passages that look right but are not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    query: Text
    positives: Annotated[tuple[Text, ...], Field(min_length=1)]
    negatives: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _contradicts_nothing(self) -> "Example":
        right = {content_hash(text) for text in self.positives}
        if any(content_hash(text) in right for text in self.negatives):
            raise ValueError("a passage is both positive and negative")
        return self


class Query(BaseModel):
    """A query that is measured with; what else its row says is not looked at."""

    query: Text


class Passage(BaseModel):
    """A passage that negatives may be taken from."""

    text: Text


Row = TypeVar("Row", bound=BaseModel)


def read_examples(path: Path) -> list[Example]:
    """Return the examples of a file.

    Raises:
        TrainingDataError: The file cannot be read, is empty, or a line of it is no example.
    """
    return _read(path, Example)


def read_passages(path: Path) -> list[str]:
    """Return the `text` of each line of a file; raises as `read_examples` does."""
    return [row.text for row in _read(path, Passage)]


def check_not_measured(examples: Sequence[Example], evaluation: Path) -> None:
    """Make sure that no query of the examples is a `query` of the evaluation's file.

    Raises:
        TrainingDataError: One is, or the file does not fit.
    """
    measured = [row.query for row in _read(evaluation, Query)]
    check_no_leak((example.query for example in examples), measured, what="query")


def _read(path: Path, model: type[Row]) -> list[Row]:
    rows = []
    for number, line in _lines(path):
        try:
            rows.append(model.model_validate_json(line))
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'row'}: {fault['msg']}" for fault in error.errors())
            raise TrainingDataError(f"{path} line {number}: {faults}") from None
    if not rows:
        raise TrainingDataError(f"{path} holds no row")
    return rows


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from ((number, line) for number, line in enumerate(file, start=1) if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingDataError(f"{path} cannot be read: {error}") from error
