"""Batches of requests in flight between the stages: immutable, without behaviour, known to every layer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from rag_server.errors import RagServerError
from rag_server.types import Access, Caller, Scope

BatchEndpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
BatchStatus = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
# How the lines of the input were written, and how those of the output are: as OpenAI's, or as questions with answers.
BatchKind = Literal["openai", "questions"]
RowStatus = Literal["completed", "failed"]
# What is to be done with a batch in one of these states; it has ended in every other one.
UNFINISHED: tuple[BatchStatus, ...] = ("validating", "in_progress", "finalizing", "cancelling")
# As in OpenAI's API.
COMPLETION_WINDOW_S = 24 * 3600


class LeaseLostError(RagServerError):
    """Another process has taken the batch over, or it was deleted; nothing more of it is recorded here."""

    code = "lease_lost"


class BatchEndedError(RagServerError):
    """The batch has ended, or is about to; there is nothing to cancel."""

    code = "batch_ended"


@dataclass(frozen=True, slots=True)
class BatchError:
    """What is wrong with a batch's input; `line` counts from 1, `param` names the field in it."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class BatchUsage:
    """Tokens of prompts, how many of them came from a cache, tokens of answers, and how many of those were reasoning."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class NewBatch:
    """What is known of a batch before its rows are.

    `input_file_id` None is a batch of the command line, which adds its rows itself and is not shown by the API.
    `fingerprint` finds it again; `expires_after_s` None is never.
    """

    endpoint: str
    kind: BatchKind = "openai"
    input_file_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)
    output_expires_after_s: int | None = None
    fingerprint: str | None = None
    expires_after_s: int | None = COMPLETION_WINDOW_S


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that are answered in the background, as whoever made the batch. Times are whole seconds since 1970.

    `expired_at` is set from when its time was over, `model` where all rows name the same.
    """

    id: str
    kind: BatchKind
    access: Access
    key_id: str | None
    scopes: frozenset[Scope] | None
    endpoint: str
    input_file_id: str | None
    metadata: Mapping[str, str] = field(hash=False)
    output_expires_after_s: int | None
    fingerprint: str | None
    status: BatchStatus
    created_at: int
    expires_at: int | None
    in_progress_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    output_file_id: str | None
    error_file_id: str | None
    model: str | None
    errors: tuple[BatchError, ...]
    total: int
    completed: int
    failed: int
    usage: BatchUsage

    @property
    def caller(self) -> Caller:
        """For whom its rows are answered."""
        return Caller(self.access, self.key_id, self.scopes)

    @property
    def next_output_file_id(self) -> str:
        """The id that its file of outputs gets; the same each time, so that a second writing replaces the first."""
        return f"file-{self.id.removeprefix('batch_')}0"

    @property
    def next_error_file_id(self) -> str:
        """Likewise of its file of errors."""
        return f"file-{self.id.removeprefix('batch_')}1"


@dataclass(frozen=True, slots=True)
class RowError:
    """Why a row has no response."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A request of a batch. `number` is its line, from 0; `request` is JSON text; equal `key`s have equal answers.

    `error` is what is wrong with a row that cannot be asked: it has failed from the start.
    """

    number: int
    custom_id: str
    request: str
    key: str
    error: RowError | None = None


@dataclass(frozen=True, slots=True)
class RowResult:
    """How a row ended: with a response (JSON text) and its HTTP status, or with an error where there is none."""

    number: int
    status_code: int | None = None
    response: str | None = None
    request_id: str | None = None
    error: RowError | None = None
    usage: BatchUsage = BatchUsage()

    @property
    def status(self) -> RowStatus:
        """Whether the row was answered."""
        answered = self.error is None and self.status_code is not None and self.status_code < 400
        return "completed" if answered else "failed"


@dataclass(frozen=True, slots=True)
class FinishedRow:
    """A row with its result; `sequence` grows from 1 in the order of finishing, and no two rows of a batch ever share one."""

    row: BatchRow
    result: RowResult
    sequence: int
    finished_at: float
