"""Named errors. Each message says what is wrong and what to do; `api/errors.py` and `cli.py` show it, never a traceback."""

from typing import Any


class RagServerError(Exception):
    """Something went wrong that the caller can act on. `code` is the machine-readable name in OpenAI's error object."""

    code = "internal_error"


class ConfigError(RagServerError):
    """A setting is unknown, malformed or contradicts another; correct it and start again."""

    code = "invalid_configuration"


class MissingExtraError(RagServerError):
    """An optional part is not installed; the message names the command that installs it."""

    code = "missing_extra"


class InvalidRequestError(RagServerError):
    """The request itself is wrong; `param` names the field."""

    code = "invalid_request"

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class InvalidJsonError(InvalidRequestError):
    """The body is no JSON, or JSON that cannot be stored or sent on."""

    code = "invalid_json"


class FetchError(InvalidRequestError):
    """A URL is not fetched, or what it leads to cannot be; the message says why."""

    code = "url_not_fetched"

    def __init__(self, message: str) -> None:
        super().__init__(message, "url")


class InvalidAttributeError(InvalidRequestError):
    """An attribute is of no type that can be stored or compared; the message names it."""

    code = "invalid_attribute"


class InvalidFilterError(InvalidRequestError):
    """A filter is malformed, or compares with an attribute that no document has."""

    code = "invalid_filter"


class UnauthorizedError(RagServerError):
    """The request carries no valid API key."""

    code = "invalid_api_key"


class ForbiddenError(RagServerError):
    """The API key is valid, but what is asked for is not for its bearer."""

    code = "forbidden"


class InsufficientScopeError(ForbiddenError):
    """The API key is valid, but was not made for this kind of request."""

    code = "insufficient_scope"


class PayloadTooLargeError(RagServerError):
    """The upload is larger than this server takes."""

    code = "payload_too_large"


class UnsupportedEncodingError(RagServerError):
    """The body is compressed; this server takes it as it is."""

    code = "unsupported_content_encoding"


class RequestTimeoutError(RagServerError):
    """The body did not arrive in time."""

    code = "request_timeout"


class CancelledByUserError(RagServerError):
    """Someone cancelled the file or deleted it while it was indexed; what was stored of it stays until it is deleted."""

    code = "cancelled"


class NotFoundError(RagServerError):
    """What the request names does not exist."""

    code = "not_found"


class ExpiredError(InvalidRequestError):
    """The vector store was not used for longer than its `expires_after` allows; nothing is searched or put into it any more."""

    code = "expired"


class ModelNotFoundError(NotFoundError):
    """No model of that name is served."""

    code = "model_not_found"


class PreviousResponseNotFoundError(InvalidRequestError):
    """The response that a request wants to go on from does not exist (any more)."""

    code = "previous_response_not_found"


class UnsupportedToolError(InvalidRequestError):
    """The request names a hosted tool that this server cannot run."""

    code = "unsupported_tool"


class PromptTooLongError(InvalidRequestError):
    """The conversation alone, without any passage, does not fit the engine's context."""

    code = "context_length_exceeded"


class DocumentError(RagServerError):
    """One file, or one row of it, cannot be indexed; the others can."""

    code = "unreadable_document"


class UnsupportedFormatError(DocumentError):
    """No loader reads this kind of file."""

    code = "unsupported_format"


class EmbeddingMismatchError(RagServerError):
    """A vector store was built with another embedding model than the configured one."""

    code = "embedding_mismatch"


class EmbeddingModelGoneError(EmbeddingMismatchError):
    """The model that a vector store was built with is not where it was, or is another one now."""


class DimensionMismatchError(RagServerError):
    """A vector has another number of columns than the vector index it is meant for."""

    code = "dimension_mismatch"


class StoreError(RagServerError):
    """The truth store cannot be read or written (disk full, read-only, locked by another process, damaged)."""

    code = "store_unavailable"


class StoreDamagedError(StoreError):
    """The truth store's own file is damaged; it has to be restored."""

    code = "store_damaged"


class IndexUnavailableError(RagServerError):
    """The vector index is kept elsewhere, and cannot be reached now; try again after `retry_after_s` seconds."""

    code = "index_unavailable"

    def __init__(self, message: str, retry_after_s: int = 5) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class IndexInUseError(IndexUnavailableError):
    """Another process has the file open that the vector index is kept in."""


class ClusterUnavailableError(RagServerError):
    """The Ray cluster cannot be reached, or failed at its work; mend it and run the command again, which goes on."""

    code = "cluster_unavailable"


class EngineUnavailableError(RagServerError):
    """The engine is starting, down or overloaded; try again after `retry_after_s` seconds."""

    code = "engine_unavailable"

    def __init__(self, message: str, retry_after_s: int = 5) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineRequestError(RagServerError):
    """The engine refused the request; `status` and `body` are its own answer, handed on to the client.

    `retry_after_s` is set where it says that it has too much to do.
    """

    code = "engine_refused"

    def __init__(self, status: int, body: Any, retry_after_s: float | None = None) -> None:
        error = body.get("error") if isinstance(body, dict) else None
        reason = error.get("message") if isinstance(error, dict) else None
        super().__init__(f"the engine answered {status}" + (f": {reason}" if reason else ""))
        self.status = status
        self.body = body
        self.retry_after_s = retry_after_s


class RateLimitedError(RagServerError):
    """The API key has used up what it may use for now; try again after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float, code: str = "rate_limit_exceeded") -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.code = code


class OverloadedError(RagServerError):
    """More is asked of this server than it can carry; try again after `retry_after_s` seconds."""

    code = "overloaded"

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ShuttingDownError(OverloadedError):
    """The server is about to end; another one, or the next one here, answers."""

    code = "shutting_down"


class DeadlineExceededError(RagServerError):
    """The time that the request may take was over before it was answered."""

    code = "deadline_exceeded"


class RerankError(RagServerError):
    """A reranker cannot be used with this model; the first stage's order stands, and the answer says so."""

    code = "rerank_failed"


class EngineProtocolError(RagServerError):
    """The engine's answer is not what the OpenAI protocol says, or it broke off in mid-stream."""

    code = "engine_protocol_error"


class TrainingDataError(RagServerError):
    """A training or evaluation set cannot be used as it is; correct the row or the split that is named."""

    code = "invalid_training_data"


class TrainingDivergedError(RagServerError):
    """The loss is no number any more; start again from the last checkpoint with a lower learning rate."""

    code = "training_diverged"


class UnsupportedModelError(RagServerError):
    """A model cannot be trained or used in this way; name one of the families that can."""

    code = "unsupported_model"


class OutOfMemoryError(RagServerError):
    """The device has no room for a step; take fewer examples or shorter texts at a time."""

    code = "out_of_memory"


class WorseModelError(RagServerError):
    """A model is no better than what it would replace, or nobody measured it; measure it, or insist."""

    code = "worse_model"
