"""Answers to questions as a JSON Lines file, one row per question, whoever gave them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rag_server.errors import ConfigError


class _Row(BaseModel):
    # Whatever else the API's objects hold is kept.
    model_config = ConfigDict(frozen=True, extra="allow")


class PredictedPassage(_Row):
    """A passage of the prompt, as in the API's `rag.passages`."""

    id: int
    text: str


class PredictedCitation(_Row):
    """A citation, as in the API's `rag.citations`; `number` is None where the model wrote no mark."""

    passage_id: int
    number: int | None = None
    quote: str | None = None


class PredictedSources(_Row):
    """The API's `rag` object. `passages` are in the order of the prompt."""

    passages: tuple[PredictedPassage, ...] = ()
    citations: tuple[PredictedCitation, ...] = ()
    num_dropped: int = 0

    def text_of(self, passage_id: int) -> str:
        """Return the passage's text, nothing if the prompt held no such passage."""
        return next((passage.text for passage in self.passages if passage.id == passage_id), "")


class Prediction(_Row):
    """What came of a question: an answer, or the error that took its place.

    `rag` is None for an answer of a program that does not cite.
    """

    id: str
    answer: str | None = None
    error: str | None = None
    rag: PredictedSources | None = None
    seconds: float | None = Field(None, ge=0)
    prompt_tokens: int | None = Field(None, ge=0)
    output_tokens: int | None = Field(None, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _from_batch(cls, row: object) -> object:
        """Take a row of `rag-server batch` for what it is: it has the passages and citations beside the answer."""
        if not isinstance(row, dict) or "rag" in row or "passages" not in row:
            return row
        usage, timings_ms = _mapping(row, "usage"), _mapping(row, "timings_ms")
        told = {
            "rag": {"passages": row["passages"], "citations": row.get("citations", ())},
            "prompt_tokens": usage.get("prompt_tokens"),
            "output_tokens": usage.get("completion_tokens"),
            "seconds": sum(timings_ms.values()) / 1000 if timings_ms else None,
        }
        return {**{name: value for name, value in row.items() if name not in ("passages", "citations")}, **told}

    @property
    def failed(self) -> bool:
        """Whether there is no answer."""
        return self.answer is None


def _mapping(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = row.get(name)
    return value if isinstance(value, dict) else {}


def read_predictions(path: Path) -> list[Prediction]:
    """Return the rows of the file.

    Raises:
        ConfigError: The file cannot be read, a row is malformed, or two rows are of one question.
    """
    try:
        # Texts may hold what str.splitlines takes for the end of a line.
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); name a file with a row per answer") from error
    predictions: dict[str, Prediction] = {}
    for number, line in enumerate(lines, start=1):
        try:
            prediction = Prediction.model_validate_json(line)
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(map(str, fault["loc"]))
            raise ConfigError(f"{path} line {number}: {where}: {fault['msg']}; correct the row") from None
        if prediction.id in predictions:
            raise ConfigError(f"{path} line {number}: a second answer to question {prediction.id}; remove one")
        predictions[prediction.id] = prediction
    return list(predictions.values())


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write one row per prediction; the folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{prediction.model_dump_json()}\n" for prediction in predictions), encoding="utf-8")
