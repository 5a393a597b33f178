"""The server's own description in OpenAPI 3.1, made when it is first asked for."""

import json
import threading

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from rag_server.api.guard import is_public
from rag_server.protocols import Json


class Description:
    """What an application serves, described once; from many threads."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._made: bytes | None = None

    def written(self) -> bytes:
        """Return the description as JSON; the first call takes seconds."""
        with self._lock:
            if self._made is None:
                self._made = json.dumps(self._describe()).encode()
            return self._made

    def _describe(self) -> Json:
        # OpenAI's types take half a second to import, which no start should wait for.
        from rag_server.api.description.generation import describe

        app = self._app
        generated = get_openapi(title=app.title, version=app.version, summary=SUMMARY, routes=app.routes)
        return describe(generated, is_public=is_public)


SUMMARY = "OpenAI's API over your own documents. Fields named `rag` and the operations without /v1 are this server's own."
