"""What every system of the comparison can do: it indexes a file of chunks, and is opened to be searched."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from eval.peers.adapters.commands import Load, Row

# The names of the ways to search.
IN_PROCESS = "in process"
HTTP = "HTTP"
HTTP_VECTORS = "HTTP, vectors only"


@dataclass(frozen=True, slots=True)
class Indexed:
    """What indexing took beside the start of the process; `versions` are those of the distributions that did it."""

    seconds: float
    num_chunks: int
    peak_mb: float
    versions: dict[str, str]
    start_s: float


class Searcher(Protocol):
    """A system that is open to be searched, in one of its ways."""

    def search(self, queries: Sequence[str], *, callers: int, seconds: float) -> Load:
        """Have callers search one after the other for so long, each query at most once."""

    def rank(self, queries: Sequence[str], k: int) -> list[list[str]]:
        """Return the ids of the k best chunks of each query."""

    def add(self, row: Row) -> float | None:
        """Give it one more chunk; return the seconds until a search finds it, None if none does."""

    def memory_mb(self) -> float:
        """Return what its processes take now."""


class System(Protocol):
    """A system and the ways to search it."""

    @property
    def name(self) -> str:
        """What the tables call it."""

    @property
    def ways(self) -> tuple[str, ...]:
        """The names of the ways to search it."""

    def index(self, chunks_path: Path, folder: Path) -> Indexed:
        """Index the chunks into the folder, which is empty."""

    def open(self, folder: Path, way: str) -> AbstractContextManager[Searcher]:
        """Open what was indexed into the folder; what is added while it is open may stay there."""
