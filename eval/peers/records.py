"""Keeps what was measured of each system as JSON, so that a stopped run goes on where it was."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

Record = TypeVar("Record", bound=BaseModel)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class IndexRecord(_Record):
    """What one indexing of a corpus took: seconds beside the start of the process, and the most memory."""

    seconds: float
    num_chunks: int
    peak_mb: float
    start_s: float
    versions: dict[str, str]

    @property
    def rate(self) -> float:
        """Chunks per second."""
        return self.num_chunks / self.seconds


class LoadRecord(_Record):
    """What so many callers met in so many seconds."""

    latencies_ms: list[float]
    seconds: float
    failures: list[str]

    @property
    def rate(self) -> float:
        """Answered searches per second."""
        return len(self.latencies_ms) / self.seconds if self.seconds else 0.0


class SearchRecord(_Record):
    """One round of one way to search.

    `ranked` holds the best documents of each judged query, in the first round alone; `loads` are by the number of callers, and
    `found_s` holds the seconds until each new document was found.
    """

    ranked: dict[str, list[str]]
    loads: dict[int, LoadRecord]
    found_s: list[float | None]
    memory_mb: float


@dataclass(frozen=True, slots=True)
class Records:
    """The records of one corpus, in a folder."""

    folder: Path

    def forget(self, name: str) -> None:
        """Remove every record whose name begins with this word."""
        for path in self.folder.glob(f"{slug(name)}-*.json"):
            path.unlink()

    def get_or_measure(self, kind: type[Record], measure: Callable[[], Record], *name: str) -> Record:
        """Return the record of that name, measured now if there is none."""
        path = self.folder / f"{'-'.join(map(slug, name))}.json"
        if path.is_file():
            return kind.model_validate_json(path.read_text(encoding="utf-8"))
        measured = measure()
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(measured.model_dump_json(), encoding="utf-8")
        unfinished.replace(path)
        return measured


def slug(name: str) -> str:
    """Return the name as part of a file's name."""
    return re.sub(r"[^a-z0-9.]+", "_", name.lower())
