"""Training examples of the embedder: queries with right and wrong passages, JSON Lines, checked before anything is spent."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rag_server.learning.json_lines import Text, read_json_lines
from rag_server.learning.splits import check_no_leak, content_hash


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


def read_examples(path: Path) -> list[Example]:
    """Return the examples of a file.

    Raises:
        TrainingDataError: The file cannot be read, is empty, or a line of it is no example.
    """
    return read_json_lines(path, Example)


def read_passages(path: Path) -> list[str]:
    """Return the `text` of each line of a file; raises as `read_examples` does."""
    return [row.text for row in read_json_lines(path, Passage)]


def check_not_measured(examples: Sequence[Example], evaluation: Path) -> None:
    """Make sure that no query of the examples is a `query` of the evaluation's file.

    Raises:
        TrainingDataError: One is, or the file does not fit.
    """
    measured = [row.query for row in read_json_lines(evaluation, Query)]
    check_no_leak((example.query for example in examples), measured, what="query")
