"""Sends requests and keeps what was answered; a step that fails does not stop those after it."""

import time
from typing import Any

import httpx

from eval.conformance.validation import Answer
from rag_server.protocols import Json

INDEXING_TIMEOUT_S = 60.0


class Driver:
    """A client whose answers are kept."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self.answers: list[Answer] = []

    def send(self, method: str, path: str, body: Json | None = None, **arguments: Any) -> Json:
        """Send a request; return the object that was answered, empty where there is none."""
        if body is not None:
            arguments["json"] = body
        response = self._client.request(method, path, **arguments)
        media_type = response.headers.get("content-type", "").partition(";")[0]
        self.answers.append(Answer(method, str(response.url.path), response.status_code, media_type, response.content))
        if media_type != "application/json" or response.is_error:
            return {}
        found = response.json()
        return found if isinstance(found, dict) else {}

    def made(self, path: str, body: Json | None = None, **arguments: Any) -> str:
        """Make an object; return its id."""
        return str(self.send("POST", path, body, **arguments).get("id", "missing"))

    def wait_while(self, path: str, status: str = "in_progress") -> None:
        """Wait until what is at the path has another status."""
        until = time.monotonic() + INDEXING_TIMEOUT_S
        while self._client.get(path).json().get("status") == status and time.monotonic() < until:
            time.sleep(0.1)
