"""Training rows of the answerer: questions with their answers and passages, JSON Lines, checked before anything is spent."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, model_validator

from rag_server.learning.json_lines import Text, read_json_lines


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
    """Return the rows of a file; raises as `read_json_lines` does."""
    return read_json_lines(path, Row, id_of=lambda row: row.id)
