"""Writes the output of `rag-server batch`: derived from the recorded results, and made equal to them whatever happened."""

import csv
import fcntl
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from rag_server.batch_types import Batch, FinishedRow, RowStatus
from rag_server.commands.batching_rows import parquet
from rag_server.errors import InvalidRequestError
from rag_server.jobs.batches.outcomes import error_of
from rag_server.jobs.batches.output import PAGE, output_line
from rag_server.store.batches import Batches

ANSWER_COLUMNS = ("id", "question", "answer", "passages", "citations", "usage", "timings_ms", "settings", "finish_reason")
ERROR_COLUMNS = ("id", "question", "error", "status_code")
# Rows of a Parquet file that are held in memory at a time.
GROUP = 1000


def errors_path(out: Path) -> Path:
    """Return where the rows that failed are written."""
    return out.with_name(f"{out.stem}.errors{out.suffix}")


def answer_row(finished: FinishedRow) -> dict[str, Any]:
    """Return the answer to a question with what it rests on, in the order of ANSWER_COLUMNS."""
    body = json.loads(finished.row.request)["body"]
    response = json.loads(finished.result.response or "{}")
    rag = response.get("rag") or {}
    choice: dict[str, Any] = next(iter(response.get("choices") or []), {})
    # Its address is that of a server that may be gone.
    passages = [{name: value for name, value in passage.items() if name != "url"} for passage in rag.get("passages", [])]
    return {
        "id": finished.row.custom_id,
        "question": body["messages"][-1]["content"],
        "answer": (choice.get("message") or {}).get("content") or "",
        "passages": passages,
        "citations": rag.get("citations", []),
        "usage": response.get("usage"),
        "timings_ms": rag.get("timings_ms", {}),
        "settings": {name: value for name, value in body.items() if name != "messages"},
        "finish_reason": choice.get("finish_reason"),
    }


def error_row(finished: FinishedRow) -> dict[str, Any]:
    """Return what is wrong with a row, in the order of ERROR_COLUMNS."""
    result = finished.result
    if result.error is not None:
        error: dict[str, Any] = {"code": result.error.code, "message": result.error.message}
    else:
        told = error_of(json.loads(result.response or "{}"))
        error = {"code": told.get("code"), "message": told.get("message")}
    messages = json.loads(finished.row.request).get("body", {}).get("messages")
    question = messages[-1]["content"] if messages else None
    return {"id": finished.row.custom_id, "question": question, "error": error, "status_code": result.status_code}


class Encoding:
    """Makes the lines of one file out of rows with results."""

    def __init__(self, batch: Batch, status: RowStatus, suffix: str) -> None:
        self._batch = batch
        self._row = answer_row if status == "completed" else error_row
        self.columns = ANSWER_COLUMNS if status == "completed" else ERROR_COLUMNS
        self._suffix = suffix

    def head(self) -> bytes:
        """Return what the file begins with."""
        return _csv_line(self.columns) if self._suffix == ".csv" else b""

    def line(self, finished: FinishedRow) -> bytes:
        """Return a row's line, the same each time."""
        if self._batch.kind == "openai":
            return output_line(self._batch, finished).encode()
        if self._suffix == ".csv":
            return _csv_line(list(self.flat(finished).values()))
        return f"{json.dumps(self._row(finished), ensure_ascii=False)}\n".encode("utf-8", "replace")

    def flat(self, finished: FinishedRow) -> dict[str, str]:
        """Return a row with texts alone; what is more than that is JSON."""
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in self._row(finished).items()}


class Stream:
    """A file that grows by the rows with one status: in the order of finishing, or `ordered` as in the input."""

    def __init__(self, batches: Batches, batch: Batch, path: Path, status: RowStatus, *, ordered: bool) -> None:
        self.path = path
        self._batches = batches
        self._batch = batch
        self._status = status
        self._ordered = ordered
        self._encoding = Encoding(batch, status, path.suffix)
        self._after = -1
        self._file: IO[bytes] | None = None

    def begin(self) -> None:
        """Begin with an empty file."""
        self._file = self.path.open("wb")
        self._file.write(self._encoding.head())

    def adopt(self) -> None:
        """Keep of the file what is as it would be written now, and cut off the rest, such as half a line.

        Raises:
            InvalidRequestError: Nothing in it is.
        """
        self._file = file = self.path.open("r+b")
        head = self._encoding.head()
        if file.read(len(head)) != head:
            file.seek(0)
            self._refuse_foreign(file)
            file.seek(0)
            file.truncate()
            file.write(head)
            return
        kept = len(head)
        for finished in self._rows():
            line = self._encoding.line(finished)
            if file.read(len(line)) != line:
                break
            kept += len(line)
            self._after = self._place(finished)
        if kept == len(head):
            file.seek(kept)
            self._refuse_foreign(file)
        file.seek(kept)
        file.truncate()

    def advance(self) -> None:
        """Write what has finished since."""
        file = self._file
        if file is None:
            raise RuntimeError("begin() or adopt() comes first")
        for finished in self._rows():
            file.write(self._encoding.line(finished))
            self._after = self._place(finished)
        file.flush()

    def finish(self) -> None:
        """Bring the file to the disk."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let the file go."""
        if self._file is not None:
            self._file.close()

    def _rows(self) -> Iterator[FinishedRow]:
        after, by = self._after, "number" if self._ordered else "sequence"
        # Before the first row without a result, nothing can come in between any more.
        pending = self._batches.pending(self._batch, -1, 1) if self._ordered else []
        while page := self._batches.results(self._batch, after, PAGE, by=by, status=self._status):  # type: ignore[arg-type]
            for finished in page:
                if pending and finished.row.number > pending[0].number:
                    return
                yield finished
            after = self._place(page[-1])

    def _place(self, finished: FinishedRow) -> int:
        return finished.row.number if self._ordered else finished.sequence

    def _refuse_foreign(self, file: IO[bytes]) -> None:
        """Refuse a file in which a whole line stands that this job did not write."""
        if b"\n" in file.read():
            raise foreign(self.path)


class ParquetFile:
    """A Parquet file, which is written once all rows are there."""

    def __init__(self, batches: Batches, batch: Batch, path: Path, status: RowStatus, *, ordered: bool) -> None:
        self.path = path
        self._encoding = Encoding(batch, status, path.suffix)
        self._rows: Callable[[int], list[FinishedRow]] = lambda after: batches.results(
            batch, after, GROUP, by="number" if ordered else "sequence", status=status
        )
        self._place: Callable[[FinishedRow], int] = lambda row: row.row.number if ordered else row.sequence

    def begin(self) -> None:
        """Do nothing."""

    def adopt(self) -> None:
        """Do nothing."""

    def advance(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Write the file, in the place of the one that is there."""
        import pyarrow as pa

        schema = pa.schema([(name, pa.string()) for name in self._encoding.columns])
        temporary = self.path.with_name(f".{self.path.name}.new")
        after = -1
        with parquet().ParquetWriter(temporary, schema) as writer:
            while rows := self._rows(after):
                flat: list[Mapping[str, str]] = [self._encoding.flat(row) for row in rows]
                writer.write_table(pa.Table.from_pylist(flat, schema=schema))
                after = self._place(rows[-1])
        temporary.replace(self.path)


class Lock:
    """Keeps other commands from writing the same output; makes the file, if it is not there."""

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Raises:
            InvalidRequestError: Another command has it, or the file cannot be written.
        """
        try:
            self._file = path.open("ab")
        except OSError as error:
            raise InvalidRequestError(f"{path} cannot be written: {error.strerror or error}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise InvalidRequestError(f"{path} is written by another `rag-server batch` now; wait for its end") from None

    def release(self) -> None:
        """Give it back."""
        self._file.close()


def foreign(path: Path) -> InvalidRequestError:
    """Return the error for a file that this job did not write."""
    return InvalidRequestError(
        f"{path} holds something else than the output of this job, which goes by the content of its input, its output's name, "
        "the collection and --limit, and by --ordered; name another file, or remove this one: what was answered is kept"
    )


def _csv_line(values: Any) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue().encode("utf-8", "replace")
