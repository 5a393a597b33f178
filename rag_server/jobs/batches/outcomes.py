"""What an answer to a row means: whether it is the row's result, and what it used."""

from typing import Any

from rag_server.batch_types import BatchUsage
from rag_server.protocols import Json
from rag_server.usage import tokens_of

# The engine is away, has too much to do, or is not let in with the key that is set: none of that is the row's fault.
AWAY = {429, 503, 504}
AWAY_CODES = {"invalid_configuration"}
# The engine fell over this row, or merely while it worked on it.
BROKEN = {500, 502}


def is_away(status: int, body: Json) -> bool:
    """Return whether a row waits for better times with this answer."""
    return status in AWAY or error_of(body).get("code") in AWAY_CODES


def error_of(body: Json) -> Json:
    """Return the error object of an answer, empty where it has none."""
    error = body.get("error")
    return error if isinstance(error, dict) else {}


def usage_of(body: Json) -> BatchUsage:
    """Return the tokens of an answer, as completions, embeddings and responses tell them."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return BatchUsage()
    prompt, output = tokens_of(usage)
    read = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    written = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
    return BatchUsage(prompt, _number(read, "cached_tokens"), output, _number(written, "reasoning_tokens"))


def _number(details: Any, name: str) -> int:
    value = details.get(name) if isinstance(details, dict) else None
    return value if isinstance(value, int) and value > 0 else 0
