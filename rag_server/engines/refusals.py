"""What an engine says when it refuses a request, in OpenAI's error object."""

import re
from typing import Any

from rag_server.protocols import Json

TYPES = {403: "permission_error", 429: "rate_limit_error"}
# OpenAI's types are words like invalid_request_error; vLLM's are names of classes.
_TYPE = re.compile(r"[a-z]+(_[a-z]+)+")


def refusal(status: int, answer: object) -> Json:
    """Return OpenAI's error object for what an engine answered with a status from 400 to 499.

    Known are OpenAI's shape, vLLM's older one (`{"object": "error", "message": ...}`) and FastAPI's (`{"detail": ...}`).
    """
    found = _error(answer)
    message = found.get("message")
    if not isinstance(message, str) or not message:
        message = f"the engine refused the request with status {status}"
    kind, param, code = found.get("type"), found.get("param"), found.get("code")
    if not isinstance(kind, str) or not _TYPE.fullmatch(kind):
        kind = TYPES.get(status, "invalid_request_error")
    return {
        "error": {
            "message": message,
            "type": kind,
            "param": param if isinstance(param, str) else None,
            "code": code if isinstance(code, str) else _code(status, message, param),
        }
    }


def _error(answer: object) -> dict[str, Any]:
    if not isinstance(answer, dict):
        return {}
    error = answer.get("error")
    if isinstance(error, dict):
        return error
    return {"message": error or answer.get("detail"), **{name: value for name, value in answer.items() if name != "error"}}


def _code(status: int, message: str, param: object) -> str | None:
    """Return OpenAI's word where vLLM has the status again."""
    if status == 404 and (param == "model" or "model" in message.lower()):
        return "model_not_found"
    return "context_length_exceeded" if status == 400 and "context length" in message else None
