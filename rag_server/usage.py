"""What a request has used so far: told by whoever sees an answer, read by limits, metrics, logs and traces."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import Counter

from rag_server.spans import NO_SPAN, Attribute, Span, Tracer

TOKENS = Counter("rag_tokens_total", "Tokens of prompts and of answers, as the engine counts them.", ["kind"])
PROMPT_CACHE_TOKENS = Counter(
    "rag_prompt_cache_tokens_total",
    "Tokens of prompts that the engine found in its cache or not, of answers that tell it.",
    ["outcome"],
)
# Where an engine does not tell: English text has about four bytes to a token.
ESTIMATED_BYTES_PER_TOKEN = 4


@dataclass(slots=True)
class RequestRecord:
    """What is known of a request while it runs.

    `charge` takes tokens off what the caller may use, `tracer` makes the spans of its stages below `span`; both are None
    where there are no limits or no traces. `body_bytes` is what was read of the body. `priority` is the engine's word for what
    may wait: 0 is served before 1.
    """

    started_s: float = field(default_factory=time.perf_counter)
    body_bytes: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    charge: Callable[[int], None] | None = None
    tracer: Tracer | None = None
    span: Span = NO_SPAN
    priority: int = 0

    def elapsed_s(self) -> float:
        """Return the seconds since the request came."""
        return time.perf_counter() - self.started_s


_CURRENT: ContextVar[RequestRecord | None] = ContextVar("request_record", default=None)


def begin_record() -> RequestRecord:
    """Return a new record, which is the current one of this task and of those that it starts."""
    record = RequestRecord()
    _CURRENT.set(record)
    return record


@contextmanager
def traced(name: str, **attributes: Attribute) -> Iterator[Span]:
    """Give the span of a piece of work for the current request, which ends with the block."""
    record = _CURRENT.get()
    span = NO_SPAN if record is None or record.tracer is None else record.tracer.stage(record.span, name, attributes)
    try:
        yield span
    except BaseException as error:
        span.fail(error)
        raise
    finally:
        span.end()


def current_record() -> RequestRecord | None:
    """Return the record of the request that this task works for."""
    return _CURRENT.get()


def note_usage(usage: Mapping[str, Any]) -> None:
    """Count the tokens of an answer by its `usage`."""
    note_tokens(*tokens_of(usage))


def tokens_of(usage: Mapping[str, Any]) -> tuple[int, int]:
    """Return the tokens of prompt and answer of a `usage`, as completions, embeddings, responses and rankings have it."""
    prompt = _number(usage, "prompt_tokens", "input_tokens")
    output = _number(usage, "completion_tokens", "output_tokens")
    return prompt, output or max(0, _number(usage, "total_tokens") - prompt)


def note_prompt_cache(usage: object) -> None:
    """Count how much of a prompt the engine had in its cache, where the `usage` of its answer tells it."""
    details = usage.get("prompt_tokens_details") if isinstance(usage, dict) else None
    if not isinstance(usage, dict) or not isinstance(details, dict):
        return
    cached, (prompt, _) = details.get("cached_tokens"), tokens_of(usage)
    if isinstance(cached, int) and 0 <= cached <= prompt:
        PROMPT_CACHE_TOKENS.labels("hit").inc(cached)
        PROMPT_CACHE_TOKENS.labels("miss").inc(prompt - cached)


def note_tokens(prompt: int, output: int) -> None:
    """Count tokens for the current request, and charge them to its caller."""
    TOKENS.labels("prompt").inc(prompt)
    TOKENS.labels("output").inc(output)
    record = current_record()
    if record is not None:
        record.prompt_tokens += prompt
        record.output_tokens += output
        if record.charge is not None and prompt + output:
            record.charge(prompt + output)


def _number(usage: Mapping[str, Any], *names: str) -> int:
    """Return the first of the fields that is a number that makes sense, else 0."""
    values = (usage.get(name) for name in names)
    return next((value for value in values if isinstance(value, int) and value >= 0), 0)
