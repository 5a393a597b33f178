"""Streams the rows of a .jsonl file, each a document of its own; a bad row is reported and the others are kept."""

import codecs
import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from indexers.loaders.text import BYTE_ORDER_MARKS, clean, one_line
from rag_server.errors import DocumentError
from rag_server.types import Document

MAX_LINE_BYTES = 64 * 1024 * 1024
BYTES_PER_REPORT = 1024 * 1024


def load(path: Path, on_read: Callable[[int], None]) -> Iterator[Document | DocumentError]:
    """Yield a document per row, or the error of that row; `on_read` hears how many bytes of the file are behind it."""
    seen: set[str] = set()
    is_empty = True
    with path.open("rb") as file:
        for number, line in _lines(path, file, on_read):
            is_empty = False
            try:
                document = _document(line, number)
                _check_new(document.document_id, seen)
            except DocumentError as error:
                yield DocumentError(f"{path} line {number}: {error}")
            else:
                yield document
    if is_empty:
        raise DocumentError(f"{path} holds no text")


def _lines(path: Path, file: IO[bytes], on_read: Callable[[int], None]) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the bytes of each line that is not blank."""
    stream = gzip.GzipFile(fileobj=file) if path.name.lower().endswith(".gz") else file
    reported = number = 0
    while line := _read_line(path, stream, number + 1):
        number += 1
        if number == 1:
            line = _without_mark(path, line)
        if file.tell() >= reported + BYTES_PER_REPORT:
            reported = file.tell()
            on_read(reported)
        if line.strip():
            yield number, line
    on_read(file.tell())


def _read_line(path: Path, stream: IO[bytes] | gzip.GzipFile, number: int) -> bytes:
    try:
        line = stream.readline(MAX_LINE_BYTES + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DocumentError(f"{path} is not a readable gzip file ({one_line(error)}); compress it again") from error
    if len(line) > MAX_LINE_BYTES:
        limit = MAX_LINE_BYTES // 1024**2
        raise DocumentError(f"{path} line {number} is longer than {limit} MiB; write one row per line")
    return line


def _without_mark(path: Path, line: bytes) -> bytes:
    line = line.removeprefix(codecs.BOM_UTF8)
    if line.startswith(tuple(BYTE_ORDER_MARKS)):
        raise DocumentError(f"{path} is UTF-16 or UTF-32; save it as UTF-8")
    return line


def _check_new(document_id: str, seen: set[str]) -> None:
    if document_id in seen:
        raise DocumentError(f"the id {json.dumps(document_id)} stands in an earlier row; give each row its own")
    seen.add(document_id)


def _document(line: bytes, number: int) -> Document:
    row = _parse(line)
    if "text" not in row:
        raise DocumentError("the row has no field 'text'")
    key = "id" if row.get("_id") is None else "_id"
    document_id = _string(row.pop(key, None), key)
    title = _string(row.pop("title", None), "title")
    text = row.pop("text")
    if not isinstance(text, str):
        raise DocumentError("the field 'text' is not a string")
    text = clean(text)
    if not text.strip():
        text = title
    if not text.strip():
        raise DocumentError("the row holds no text")
    return Document(document_id or f"line-{number}", title, text, _attributes(row))


def _parse(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DocumentError("not valid UTF-8; save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        raise DocumentError(f"not valid JSON ({error.msg})") from error
    # The interpreter's own limits: digits of a number, and depth.
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"not usable JSON ({one_line(error)})") from error
    if not isinstance(row, dict):
        raise DocumentError("the row is not a JSON object")
    return row


def _string(value: object, key: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise DocumentError(f"the field '{key}' is not a string")


def _attributes(row: dict[str, Any]) -> dict[str, str | float | bool]:
    attributes: dict[str, str | float | bool] = {}
    for key, value in row.items():
        if isinstance(value, str):
            attributes[clean(key)] = clean(value)
        # Infinity and NaN are no JSON, and could not be sent to a client.
        elif isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
            attributes[clean(key)] = value
        elif isinstance(value, list) or (isinstance(value, dict) and value):
            attributes[clean(key)] = clean(json.dumps(value, ensure_ascii=False))
    return attributes
