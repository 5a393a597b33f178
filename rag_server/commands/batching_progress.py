"""The progress bar of `rag-server batch`: rows, tokens per second, failures, remaining time, and what it waits for."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from rag_server.batch_types import Batch


class BatchBar:
    """Shows how far a batch is on stderr; where that is no terminal, nothing is shown."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("Answering"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:,.0f} tokens/s"),
            TextColumn("{task.fields[failed]} failed"),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self._task: TaskID | None = None
        self._began = (0.0, 0)

    def __enter__(self) -> "BatchBar":
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def show(self, batch: Batch, note: str | None) -> None:
        """Show the batch as it is now; `note` is what it waits for."""
        now, done, tokens = (
            time.monotonic(),
            batch.completed + batch.failed,
            batch.usage.input_tokens + batch.usage.output_tokens,
        )
        if self._task is None:
            self._began = now, tokens
            self._task = self._progress.add_task("", total=batch.total, completed=done, rate=0.0, failed=0, note="")
        rate = (tokens - self._began[1]) / max(now - self._began[0], 1e-6)
        self._progress.update(
            self._task, completed=done, total=batch.total, rate=rate, failed=batch.failed, note=f"· {note}" if note else ""
        )
