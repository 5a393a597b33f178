"""Reads the input of a batch line by line: each becomes a row, or an error that says what is wrong with it."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_args

from rag_server.batch_types import BatchEndpoint, BatchError, BatchRow
from rag_server.errors import InvalidRequestError
from rag_server.filters import UNSTORABLE

ENDPOINTS: tuple[str, ...] = get_args(BatchEndpoint)
# OpenAI's limits.
MAX_ROWS = 50_000
MAX_BYTES = 200 * 1024**2
MAX_EMBEDDING_INPUTS = 50_000
# Blank ones among them: a file of nothing else would be read for minutes.
MAX_LINES = 20 * MAX_ROWS
# Of the errors of a file, the first ones are listed.
MAX_ERRORS = 100
MAX_CUSTOM_ID_CHARACTERS = 512
_WHITESPACE = b" \t\r"
_BOM = b"\xef\xbb\xbf"


class _LineError(Exception):
    """What is wrong with a line."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


class BatchReader:
    """Reads one input in OpenAI's shape; what it keeps of it is a hash of each custom_id."""

    def __init__(
        self,
        endpoint: str,
        *,
        check: Callable[[bytes], None],
        serves: Callable[[str], bool] | None,
        max_line_bytes: int,
    ) -> None:
        """Make a reader.

        Args:
            endpoint: What every line's `url` must be.
            check: Raises InvalidRequestError for a line that no parser should see.
            serves: Tells whether there is a model of that name; None where that cannot be known now.
            max_line_bytes: What a line may have.
        """
        self._endpoint = endpoint
        self._check = check
        self._serves = serves
        self._max_line_bytes = max_line_bytes
        self._seen: set[bytes] = set()
        self._served: dict[str, bool] = {}
        self._num_inputs = 0

    @property
    def model(self) -> str | None:
        """The model of the rows that were read, None where they name several, or none."""
        return next(iter(self._served)) if len(self._served) == 1 else None

    def read(self, content: Iterable[bytes]) -> Iterator[BatchRow | BatchError]:
        """Yield a row or an error for each line that is not blank, in order; the last error may be of the whole file."""
        count = 0
        try:
            for number, line in split_lines(_limited(content), self._max_line_bytes):
                if number == MAX_LINES:
                    raise _LineError("too_many_lines", f"a file may have {MAX_LINES:,} lines; leave blank ones out")
                if line == b"":
                    continue
                if count == MAX_ROWS:
                    raise _LineError("too_many_tasks", f"a batch may have {MAX_ROWS:,} requests; make several batches")
                count += 1
                try:
                    yield self._row(number, line)
                except _LineError as error:
                    yield BatchError(error.code, str(error), number + 1, error.param)
            if count == 0:
                raise _LineError("empty_file", "the file holds no request; put one on each line")
        except _LineError as error:
            yield BatchError(error.code, str(error))

    def _row(self, number: int, line: bytes | None) -> BatchRow:
        if line is None:
            raise _LineError("line_too_long", f"a line may have {self._max_line_bytes:,} bytes")
        request = self._parsed(line)
        custom_id = self._custom_id(request)
        method, url = _text(request, "method"), _text(request, "url")
        if method != "POST":
            raise _LineError("invalid_method", "the method must be POST", "method")
        if url != self._endpoint:
            raise _LineError("url_mismatch", f"the url must be {self._endpoint}, the endpoint of the batch", "url")
        body = request.get("body")
        if not isinstance(body, dict):
            raise _LineError("missing_required_parameter", "the body must be there, and an object", "body")
        self._check_body(body)
        return BatchRow(number, custom_id, request_text(url, body), row_key(url, body))

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            self._check(line)
            request = json.loads(line, parse_constant=_refuse_constant)
        except InvalidRequestError as error:
            raise _LineError("invalid_json_line", str(error)) from None
        except (ValueError, RecursionError) as error:
            raise _LineError("invalid_json_line", f"this line is not valid JSON: {error}") from None
        if not isinstance(request, dict):
            raise _LineError("invalid_json_line", "this line is not a JSON object")
        return request

    def _custom_id(self, request: dict[str, Any]) -> str:
        custom_id = _text(request, "custom_id")
        if not 1 <= len(custom_id) <= MAX_CUSTOM_ID_CHARACTERS or UNSTORABLE.search(custom_id):
            raise _LineError(
                "invalid_custom_id",
                f"the custom_id must have 1 to {MAX_CUSTOM_ID_CHARACTERS} characters, none of them NUL",
                "custom_id",
            )
        digest = hashlib.blake2b(custom_id.encode(), digest_size=16).digest()
        if digest in self._seen:
            raise _LineError(
                "duplicate_custom_id", "another line before has this custom_id; each may be there once", "custom_id"
            )
        self._seen.add(digest)
        return custom_id

    def _check_body(self, body: dict[str, Any]) -> None:
        for name in ("stream", "background"):
            if body.get(name):
                raise _LineError("invalid_value", f"a request of a batch cannot have `{name}`; leave it out", f"body.{name}")
        model = body.get("model")
        if isinstance(model, str) and not self._is_served(model):
            raise _LineError("model_not_found", f"there is no model {model[:200]!r}; GET /v1/models lists them", "body.model")
        if self._endpoint == "/v1/embeddings":
            given = body.get("input")
            self._num_inputs += len(given) if isinstance(given, list) and given and not isinstance(given[0], int) else 1
            if self._num_inputs > MAX_EMBEDDING_INPUTS:
                raise _LineError(
                    "too_many_inputs", f"the requests of a batch may embed {MAX_EMBEDDING_INPUTS:,} inputs in all", "body.input"
                )

    def _is_served(self, model: str) -> bool:
        if model not in self._served:
            self._served[model] = self._serves is None or self._serves(model)
        return self._served[model]


def row_key(url: str, body: dict[str, Any]) -> str:
    """Return what is the same for requests that ask the same."""
    asked = json.dumps([url, body], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(asked.encode()).hexdigest()


def request_text(url: str, body: dict[str, Any]) -> str:
    """Return a request as a row keeps it: in ASCII, so that every database takes it."""
    return json.dumps({"method": "POST", "url": url, "body": body}, separators=(",", ":"))


def split_lines(content: Iterable[bytes], max_line_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    """Yield the lines, stripped, with their numbers from 0; one that is too long is None, and is never held whole."""
    number, held = 0, bytearray()
    for part in content:
        *ends, rest = part.split(b"\n")
        for end in ends:
            yield number, _line(number, held, end, max_line_bytes)
            number += 1
            held.clear()
        # One byte more than it may have says that it is too long.
        held += rest[: max_line_bytes + 1 - len(held)]
    yield number, _line(number, held, b"", max_line_bytes)


def _line(number: int, held: bytearray, end: bytes, max_line_bytes: int) -> bytes | None:
    if len(held) + len(end) > max_line_bytes:
        return None
    line = bytes(held) + end
    return (line.removeprefix(_BOM) if number == 0 else line).strip(_WHITESPACE)


def _limited(content: Iterable[bytes]) -> Iterator[bytes]:
    size = 0
    for part in content:
        size += len(part)
        if size > MAX_BYTES:
            raise _LineError("file_too_large", f"the file of a batch may have {MAX_BYTES // 1024**2} MB; make several batches")
        yield part


def _text(request: dict[str, Any], name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str):
        raise _LineError("missing_required_parameter", f"the {name} must be there, and a string", name)
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
