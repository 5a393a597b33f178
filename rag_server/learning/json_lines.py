"""Reads files of training data, a row of JSON on each line, checked before anything is spent."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, StringConstraints, ValidationError

from rag_server.errors import TrainingDataError

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Row = TypeVar("Row", bound=BaseModel)


def read_json_lines(path: Path, kind: type[Row], *, id_of: Callable[[Row], str] | None = None) -> list[Row]:
    """Return the rows of a file, empty lines left out.

    Raises:
        TrainingDataError: The file cannot be read, holds no row or one that does not fit, or the same id twice.
    """
    rows: list[Row] = []
    ids: set[str] = set()
    for number, line in _lines(path):
        try:
            row = kind.model_validate_json(line)
        except ValidationError as error:
            raise TrainingDataError(f"{path} line {number}: {faults_of(error)}") from None
        if id_of is not None:
            if id_of(row) in ids:
                raise TrainingDataError(f"{path} line {number}: the id {id_of(row)!r} is there twice")
            ids.add(id_of(row))
        rows.append(row)
    if not rows:
        raise TrainingDataError(f"{path} holds no row")
    return rows


def faults_of(error: ValidationError) -> str:
    """Return what does not fit, with the fields' names."""
    return "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'row'}: {fault['msg']}" for fault in error.errors())


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from ((number, line) for number, line in enumerate(file, start=1) if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingDataError(f"{path} cannot be read: {error}") from error
