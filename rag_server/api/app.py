"""The web application: routes, errors, the page, and the life of the services behind them."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag_server import __version__
from rag_server.api.admission import Admission, Gate
from rag_server.api.bodies import Bodies
from rag_server.api.description import Description
from rag_server.api.errors import ErrorResponses, install_error_handlers
from rag_server.api.guard import Guard
from rag_server.api.inside import Inside
from rag_server.api.mcp import McpEndpoint
from rag_server.api.observing import Observed
from rag_server.api.page import UI_FOLDER, PassageLinks, page_routes
from rag_server.api.queues import build_queues
from rag_server.api.rate_limits import RateLimits
from rag_server.api.request_ids import RequestIds
from rag_server.api.responses.background import BackgroundRuns
from rag_server.api.routes import (
    batches,
    chat,
    completions,
    conversations,
    description,
    embeddings,
    file_batches,
    files,
    health,
    models,
    passages,
    rerank,
    responses,
    server,
    stored_completions,
    uploads,
    vector_store_files,
    vector_stores,
)
from rag_server.services import Services

# The page loads what this server has and nothing from anywhere else, and nobody else loads anything of this server.
SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self' data:; "
        "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}

_SECURITY = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]

ROUTE_GROUPS = (
    health,
    server,
    models,
    chat,
    stored_completions,
    completions,
    embeddings,
    responses,
    conversations,
    files,
    uploads,
    vector_stores,
    vector_store_files,
    file_batches,
    batches,
    passages,
    rerank,
    description,
)

# Work that begins once the server runs, such as indexing a first collection.
Background = Callable[[Services], Awaitable[None]]
# What runs for as long as the server does and asks its routes, such as the batches.
Asking = Callable[[Services, Inside], AbstractAsyncContextManager[None]]


def create_app(
    services: Services,
    *,
    with_engine: bool = True,
    background: Background | None = None,
    asking: Asking | None = None,
    ui_folder: Path = UI_FOLDER,
) -> FastAPI:
    """Return the application; its lifespan starts and ends the services, and `asking`. The built page is in `ui_folder`."""
    mcp = McpEndpoint(services)
    background_runs = BackgroundRuns(services)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        running = services.running(with_engine=with_engine, background=background)
        asks = contextlib.nullcontext() if asking is None else asking(services, Inside(app, services))
        async with running, mcp.running(), background_runs.running(), asks:
            yield

    queues = build_queues(services.settings.limits)
    # From the outside to the inside; what stands before Bodies decides before any of the body is read.
    middleware = [
        Middleware(RequestIds),
        Middleware(Observed, services=services),
        Middleware(_Secure),
        Middleware(PassageLinks),
        Middleware(ErrorResponses),
        Middleware(Gate, services=services, queues=queues),
        Middleware(Guard, services=services),
        Middleware(RateLimits, services=services),
        Middleware(Admission, services=services, queues=queues),
        Middleware(Bodies, services=services),
    ]
    app = FastAPI(
        title="rag-server",
        version=__version__,
        lifespan=lifespan,
        middleware=middleware,
        # The description is a route of its own; it says more than the one that FastAPI makes.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    app.state.services = services
    app.state.background_runs = background_runs
    app.state.description = Description(app)
    install_error_handlers(app)
    for module in ROUTE_GROUPS:
        app.include_router(module.router)
    app.router.routes.append(mcp.route)
    app.router.routes.extend(page_routes(ui_folder))
    return app


class _Secure:
    """Adds the security headers; streams pass through unbuffered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *_SECURITY]}
            await send(message)

        await self._app(scope, receive, secured)
