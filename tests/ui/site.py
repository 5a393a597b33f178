"""A server to look at: collections made in a line, and an engine that behaves as a test says."""

import time
from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from rag_server.engines.scripted import MODEL, Script, create_app
from tests.live import Live

READY_WITHIN_S = 60.0


class Site:
    """A running server, with what tests do to it behind the page's back."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.url = live.url

    def wait_until_ready(self, *, status: int = 200) -> None:
        """Return once /ready answers with that; what the server knows of its engine may be a second old."""
        ends = time.monotonic() + READY_WITHIN_S
        while (answer := self.live.client.get("/ready")).status_code != status:
            assert time.monotonic() < ends, answer.text
            time.sleep(0.05)

    def collection(self, name: str, files: Mapping[str, str | bytes]) -> str:
        """Make a collection and index files into it; return its id."""
        store = self.live.create(name)
        for filename, content in files.items():
            self.live.attach(store, self.live.upload(filename, content))
        self.live.index_waiting()
        counts = self.live.client.get(f"/v1/vector_stores/{store}").json()["file_counts"]
        assert counts["completed"] == len(files), counts
        return store

    def engine(self, **behaviour: Any) -> None:
        """Have the engine behave like this from now on; the names are those of `Script`."""
        self.replace_engine(create_app(Script(**behaviour)))

    def replace_engine(self, application: ASGIApp) -> None:
        """Put another application where the engine was."""
        self.live.engine._app = application

    def ask(self, question: str, **rag: Any) -> dict[str, Any]:
        """Ask without the page; return the whole answer."""
        body = {"model": "rag/handbook", "messages": [{"role": "user", "content": question}], "rag": rag}
        response = self.live.client.post("/v1/chat/completions", json=body)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found


def refusing(status: int, *, retry_after_s: int | None = None, message: str = "There is no room.") -> Starlette:
    """An engine that lists its model and answers nothing."""

    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": MODEL, "object": "model", "max_model_len": 8192}]})

    async def refuse(_: Request) -> Response:
        headers = {} if retry_after_s is None else {"retry-after": str(retry_after_s)}
        return JSONResponse({"error": {"message": message}}, status, headers)

    async def tokenize(_: Request) -> Response:
        return JSONResponse({"count": 1, "max_model_len": 8192, "tokens": [1]})

    return Starlette(
        routes=[
            Route("/v1/models", models),
            Route("/tokenize", tokenize, methods=["POST"]),
            Route("/{rest:path}", refuse, methods=["GET", "POST"]),
        ]
    )


def silent() -> Starlette:
    """An engine that is still loading."""

    async def refuse(_: Request) -> Response:
        return Response(status_code=503)

    return Starlette(routes=[Route("/{rest:path}", refuse, methods=["GET", "POST"])])
