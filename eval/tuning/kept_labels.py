"""Keeps a teacher's labels as they come: to ask it takes hours, and a run that was killed goes on after the last one."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from rerankers.training.labels import Candidate, RankingLabel


class KeptLabels:
    """A file of labels that are ready, a line each, of which the last may have been cut off."""

    def __init__(self, path: Path) -> None:
        """Take up what is there; what follows the last whole line is removed.

        Raises:
            OSError: The file cannot be read or written.
        """
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        found = list(_whole_lines(path))
        self._labels = {label.query_id: label for label, _ in found}
        os.truncate(path, sum(size for _, size in found))

    def find(self, query_id: str, query: str, candidates: Sequence[Candidate]) -> RankingLabel | None:
        """Return the label of the query, None if there is none, or one of another question or of other candidates."""
        label = self._labels.get(query_id)
        if label is None or (label.query, label.passages) != (query.strip(), tuple(candidates)):
            return None
        return label

    def add(self, label: RankingLabel) -> None:
        """Keep a label."""
        with self._path.open("ab") as file:
            file.write(label.model_dump_json(exclude_none=True).encode() + b"\n")

    def remove(self) -> None:
        """Forget all: they are where they were asked for."""
        self._path.unlink()


def _whole_lines(path: Path) -> Iterator[tuple[RankingLabel, int]]:
    """Yield the labels up to the first line that is none, and the bytes of each."""
    with path.open("rb") as file:
        for line in file:
            try:
                label = RankingLabel.model_validate_json(line)
            except ValidationError:
                return
            if not line.endswith(b"\n"):
                return
            yield label, len(line)
