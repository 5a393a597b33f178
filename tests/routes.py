"""Every route of the application, found in the application itself, so that a new one cannot be forgotten."""

from collections.abc import Iterator, Sequence

from fastapi import FastAPI
from starlette.routing import BaseRoute, Mount

from rag_server.api.app import create_app
from rag_server.config import load_settings
from rag_server.services import Services

# Of an application that does not tell its methods or its routes.
ANY_METHOD = ("DELETE", "GET", "POST")


def unstarted_app() -> FastAPI:
    """The whole application without anything behind it."""
    services = object.__new__(Services)
    services.settings = load_settings({})
    return create_app(services)


def endpoints(routes: Sequence[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (method, path) of every route, those of mounted applications included."""
    for route in routes:
        path = prefix + getattr(route, "path", "")
        if isinstance(route, Mount):
            inner = list(endpoints(route.routes, path))
            yield from inner or [(method, path + tail) for method in ANY_METHOD for tail in ("", "/{path:path}")]
        else:
            yield from ((method, path) for method in sorted(getattr(route, "methods", None) or ANY_METHOD))
