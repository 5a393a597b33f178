"""Which kind of work a request is, by its method and path: what is counted, bounded and cancelled goes by it."""

import re
from typing import Literal

Work = Literal["generate", "search", "upload"]

# What runs the language model; MCP's tools may.
_GENERATE = re.compile(r"/v1/(chat/completions|completions|responses)/?|/mcp(/.*)?")
_SEARCH = re.compile(r"/v1/vector_stores/[^/]+/search/?|/v[12]/rerank/?|/v1/embeddings/?")
_UPLOAD = re.compile(r"/v1/files/?|/v1/uploads/[^/]+/parts/?")


def work_of(method: str, path: str) -> Work | None:
    """Return the kind of work, None for what only reads or writes some rows."""
    if method != "POST":
        return None
    if _GENERATE.fullmatch(path):
        return "generate"
    if _SEARCH.fullmatch(path):
        return "search"
    return "upload" if _UPLOAD.fullmatch(path) else None
