"""The progress bar of indexing: bytes read, chunks stored and their rate, time remaining."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class IndexingBar:
    """Shows the advance of indexing on stderr; where that is no terminal, nothing is shown."""

    def __init__(self, *, what: str = "file") -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[chunks]} chunks, {task.fields[rate]:.0f}/s"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not sys.stderr.isatty(),
        )
        self._what = what
        self._task = TaskID(0)
        self._num_chunks = 0
        self._started_at = time.monotonic()

    def __enter__(self) -> "IndexingBar":
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def started(self, num_files: int, total_bytes: int) -> None:
        """Show the bar: so many files, so many bytes."""
        self._started_at = time.monotonic()
        description = f"Indexing {num_files} {self._what}{'' if num_files == 1 else 's'}"
        self._task = self._progress.add_task(description, total=total_bytes, chunks=0, rate=0.0)

    def read_bytes(self, num_bytes: int) -> None:
        """Move the bar to so many bytes."""
        self._progress.update(self._task, completed=num_bytes)

    def stored_chunks(self, num_chunks: int) -> None:
        """Count chunks that were stored."""
        self._num_chunks += num_chunks
        rate = self._num_chunks / max(time.monotonic() - self._started_at, 1e-6)
        self._progress.update(self._task, chunks=self._num_chunks, rate=rate)
