"""Reads the input of `rag-server batch`: questions as JSON Lines, CSV or Parquet, or lines for OpenAI's Batch API."""

import csv
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_server.api.json_bodies import check_json
from rag_server.batch_lines import ENDPOINTS, BatchReader, request_text, row_key, split_lines
from rag_server.batch_types import BatchKind, BatchRow, RowError
from rag_server.errors import InvalidRequestError, MissingExtraError
from rag_server.filters import UNSTORABLE

CHAT = "/v1/chat/completions"
SUFFIXES = (".jsonl", ".csv", ".parquet")
READ_BYTES = 1024**2
MAX_ID_CHARACTERS = 512
# What a row may say of how it is answered; its other fields, such as the right answers of a test, are left alone.
SETTINGS = (
    "model",
    "rag",
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "reasoning_effort",
    "response_format",
    "chat_template_kwargs",
)

# A row as it was read, or why it cannot be.
Read = Mapping[str, Any] | RowError


@dataclass(frozen=True, slots=True)
class Input:
    """A file of rows; `collection` is where its questions are answered from."""

    path: Path
    kind: BatchKind
    endpoint: str
    collection: str | None
    max_line_bytes: int

    def rows(self) -> Iterator[BatchRow]:
        """Yield the rows in their order; those that cannot be asked bear an error.

        Raises:
            InvalidRequestError: The whole file is refused.
        """
        if self.kind == "openai":
            yield from self._openai_rows()
        else:
            yield from self._question_rows()

    def _openai_rows(self) -> Iterator[BatchRow]:
        reader = BatchReader(self.endpoint, check=check_json, serves=None, max_line_bytes=self.max_line_bytes)
        for row in reader.read(_parts(self.path)):
            if isinstance(row, BatchRow):
                yield row
            elif row.line is None:
                raise InvalidRequestError(f"{self.path}: {row.message}")
            else:
                yield _refused(row.line - 1, RowError(row.code, row.message))

    def _question_rows(self) -> Iterator[BatchRow]:
        seen: set[bytes] = set()
        for number, read in _read(self.path, self.max_line_bytes):
            yield self._question_row(number, read, seen)

    def _question_row(self, number: int, read: Read, seen: set[bytes]) -> BatchRow:
        if isinstance(read, RowError):
            return _refused(number, read)
        row_id, question = read.get("id"), read.get("question")
        if type(row_id) is int:
            row_id = str(row_id)
        if not isinstance(row_id, str) or not 1 <= len(row_id) <= MAX_ID_CHARACTERS or UNSTORABLE.search(row_id):
            message = f"the id must be a text of 1 to {MAX_ID_CHARACTERS} characters, or a whole number"
            return _refused(number, RowError("invalid_id", message))
        digest = hashlib.blake2b(row_id.encode(), digest_size=16).digest()
        if digest in seen:
            return _refused(number, RowError("duplicate_id", "another row before has this id"), row_id)
        seen.add(digest)
        if not isinstance(question, str) or not question.strip():
            return _refused(number, RowError("missing_question", "the question must be there, and a text"), row_id)
        body = self._body(question, read)
        return BatchRow(number, row_id, request_text(CHAT, body), row_key(CHAT, body))

    def _body(self, question: str, read: Mapping[str, Any]) -> dict[str, Any]:
        settings = {name: read[name] for name in SETTINGS if read.get(name) is not None}
        named = settings.get("model")
        if isinstance(named, str) and not named.startswith("rag/"):
            # The engine's model; which collection it answers from is said beside it.
            rag = settings.get("rag", {})
            if isinstance(rag, dict):
                settings["rag"] = {"vector_store_ids": [self.collection], **rag}
        messages = [{"role": "user", "content": question}]
        return {"model": f"rag/{self.collection}", "messages": messages, "temperature": 0, **settings}


def open_input(path: Path, collection: str | None, max_line_bytes: int) -> Input:
    """Return what the file holds, by its suffix and its first row that is one.

    Raises:
        InvalidRequestError: It cannot be read, holds no row, or questions without a collection to answer them from.
        MissingExtraError: It is a Parquet file, and pyarrow is not installed.
    """
    check_suffix(path)
    first: Mapping[str, Any] = {}
    try:
        first = next((read for _, read in _read(path, max_line_bytes) if not isinstance(read, RowError)), {})
    except OSError as error:
        raise InvalidRequestError(f"{path} cannot be read: {error.strerror or error}") from None
    if path.suffix == ".jsonl" and "custom_id" in first:
        url = first.get("url")
        if url not in ENDPOINTS:
            raise InvalidRequestError(f"{path}: the url of its rows must be one of {', '.join(ENDPOINTS)}")
        return Input(path, "openai", str(url), collection, max_line_bytes)
    if "question" not in first:
        raise InvalidRequestError(
            f'{path} holds no row with a question: write {{"id": "1", "question": "..."}} on each line, or lines for OpenAI\'s '
            "Batch API"
        )
    if collection is None:
        raise InvalidRequestError(f"{path} holds questions: name the collection to answer them from with --collection")
    return Input(path, "questions", CHAT, collection, max_line_bytes)


def check_suffix(path: Path) -> None:
    """Refuse files of other formats, and Parquet without its library.

    Raises:
        InvalidRequestError: The suffix is of none of the formats.
        MissingExtraError: pyarrow is not installed.
    """
    if path.suffix not in SUFFIXES:
        raise InvalidRequestError(f"{path}: its name must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    if path.suffix == ".parquet":
        parquet()


def parquet() -> Any:
    """Return pyarrow's module for Parquet.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("Parquet files need pyarrow: run `pip install pyarrow`, or use .jsonl or .csv") from None
    return pyarrow.parquet


def _read(path: Path, max_line_bytes: int) -> Iterator[tuple[int, Read]]:
    """Yield the rows with their numbers from 0; blank lines are passed over."""
    if path.suffix == ".jsonl":
        for number, line in split_lines(_parts(path), max_line_bytes):
            if line != b"":
                yield number, _parsed(line, max_line_bytes)
    elif path.suffix == ".csv":
        yield from enumerate(_csv_rows(path, max_line_bytes))
    else:
        batches = parquet().ParquetFile(path).iter_batches(batch_size=500)
        yield from enumerate(row for batch in batches for row in batch.to_pylist())


def _parsed(line: bytes | None, max_line_bytes: int) -> Read:
    if line is None:
        return RowError("line_too_long", f"a line may have {max_line_bytes:,} bytes")
    try:
        check_json(line)
        row = json.loads(line)
    except InvalidRequestError as error:
        return RowError("invalid_json_line", str(error))
    except (ValueError, RecursionError) as error:
        return RowError("invalid_json_line", f"this line is not valid JSON: {error}")
    return row if isinstance(row, dict) else RowError("invalid_json_line", "this line is not a JSON object")


def _csv_rows(path: Path, max_line_bytes: int) -> Iterator[Read]:
    csv.field_size_limit(min(max_line_bytes, sys.maxsize))
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.DictReader(file)
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                yield RowError("invalid_csv_row", f"this row is not valid CSV: {error}")
                continue
            if row is None:
                return
            yield {
                name: _value(name, value) for name, value in row.items() if isinstance(name, str) and value not in ("", None)
            }


def _value(name: str, value: str) -> Any:
    """Return a setting as what it is in JSON, if it is that, and everything else as its text."""
    if name in SETTINGS:
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _parts(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(READ_BYTES):
            yield part


def _refused(number: int, error: RowError, row_id: str | None = None) -> BatchRow:
    name = f"line {number + 1}" if row_id is None else row_id
    return BatchRow(number, name, "{}", f"line {number}", error)


def digest_of(path: Path, *facts: object) -> str:
    """Return what tells this file's content, with these facts beside it, from all others."""
    digest = hashlib.sha256(json.dumps([str(fact) for fact in facts]).encode())
    for part in _parts(path):
        digest.update(part)
    return digest.hexdigest()


def first_rows(rows: Iterable[BatchRow], limit: int | None) -> Iterator[BatchRow]:
    """Yield the first rows, all of them without a limit."""
    for place, row in enumerate(rows):
        if limit is not None and place >= limit:
            return
        yield row
