"""The web application: routes, errors, the page, and the life of the services behind them."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag_server import __version__
from rag_server.api.errors import UnexpectedErrors, install_error_handlers
from rag_server.api.routes import chat, files, health, models, passages, rerank, vector_store_files, vector_stores
from rag_server.observability import REQUESTS
from rag_server.services import Services

UI_FOLDER = Path(__file__).parent.parent / "ui"
# The page loads its own script and style and nothing else, from anywhere.
SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}

# Work that begins once the server runs, such as indexing a first collection.
Background = Callable[[Services], Awaitable[None]]


def create_app(services: Services, *, with_engine: bool = True, background: Background | None = None) -> FastAPI:
    """Return the application; its lifespan starts and ends the services."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with services.running(with_engine=with_engine, background=background):
            yield

    app = FastAPI(title="rag-server", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.services = services
    app.add_middleware(_CountAndSecure)
    app.add_middleware(UnexpectedErrors)
    install_error_handlers(app)
    for module in (health, models, chat, files, vector_stores, vector_store_files, passages, rerank):
        app.include_router(module.router)
    app.mount("/ui", StaticFiles(directory=UI_FOLDER), name="ui")
    app.add_api_route("/", _page, include_in_schema=False)
    return app


async def _page() -> FileResponse:
    return FileResponse(UI_FOLDER / "index.html")


class _CountAndSecure:
    """Counts requests by route and adds the security headers; streams pass through unbuffered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
                route = getattr(scope.get("route"), "path", "none")
                REQUESTS.labels(scope["method"], route, str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, count)
