"""Who is let in, and for what: every route is closed but a few, and a key has to be there before the body is read."""

import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from rag_server import types
from rag_server.api.bodies import check_announced
from rag_server.errors import ForbiddenError, InsufficientScopeError, InvalidRequestError, UnauthorizedError
from rag_server.loopback import is_loopback
from rag_server.services import Services
from rag_server.types import Caller

# They tell nothing of what is stored.
PUBLIC = frozenset({"/", "/ui", "/health", "/ready", "/metrics", "/openapi.json"})
PUBLIC_FOLDER = "/ui/"

# Inference takes `ask`; of the rest, reading takes `read` and changing takes `write`, unless it is said below.
ASKING = re.compile(
    r"/v1/(chat/completions|completions|embeddings|responses|conversations|rerank)(/.*)?"
    r"|/v1/vector_stores/[^/]+/search/?|/v2/rerank/?|/mcp(/.*)?"
)
# Who asks has to find the models, gets the addresses of passages as citations, and looks after the own batches.
READ_BY_ASKERS = re.compile(r"/v1/(models|passages|batches)(/.*)?")
# Requests in a file are requests.
CHANGED_BY_ASKERS = re.compile(r"/v1/batches(/.*)?")
# Every key may ask what it may.
OPEN_TO_ALL_KEYS = re.compile(r"/v1/rag/?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
READING = ("GET", "HEAD", "OPTIONS")


class Guard:
    """Lets a request through once it is known who sends it, and puts the Caller into `scope["state"]["caller"]`."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, or raise what the request is refused for.

        Raises:
            UnauthorizedError: There is no valid key.
            ForbiddenError: The key is not for this, or the request comes from a foreign page.
            PayloadTooLargeError: The body is said to be too large.
        """
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "http":
            await self._check(scope)
        await self._app(scope, receive, send)

    async def _check(self, scope: Scope) -> None:
        path, headers = scope["path"], Headers(scope=scope)
        # Routes end before a line end too, but what bounds and charges a request goes by its path.
        if _CONTROL.search(path) or b"%00" in scope["query_string"]:
            raise InvalidRequestError("an address holds no control characters")
        if not is_public(path):
            caller = await self._caller(headers)
            check_scope(caller, scope["method"], path)
            scope.setdefault("state", {})["caller"] = caller
        check_announced(scope, headers, self._services.settings.limits.max_body_bytes)

    async def _caller(self, headers: Headers) -> Caller:
        scheme, _, secret = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and (caller := await self._services.bearer(secret.strip())) is not None:
            return caller
        if await self._services.needs_key():
            raise UnauthorizedError("this server needs an API key: send it as `Authorization: Bearer KEY`")
        refuse_foreign(headers, host=self._services.settings.host)
        return Caller()


def is_public(path: str) -> bool:
    """Return whether a path is open to everyone."""
    return path in PUBLIC or path.startswith(PUBLIC_FOLDER)


def sufficient_scopes(method: str, path: str) -> frozenset[types.Scope]:
    """Return the scopes of which a key needs one for that request."""
    if ASKING.fullmatch(path):
        return frozenset({"ask"})
    if method in READING and OPEN_TO_ALL_KEYS.fullmatch(path):
        return frozenset({"ask", "read", "write"})
    if method not in READING:
        return frozenset({"ask"}) if CHANGED_BY_ASKERS.fullmatch(path) else frozenset({"write"})
    return frozenset({"ask", "read"}) if READ_BY_ASKERS.fullmatch(path) else frozenset({"read"})


def check_scope(caller: Caller, method: str, path: str) -> None:
    """Raise InsufficientScopeError if the caller's key was not made for that request."""
    needed = sufficient_scopes(method, path)
    if caller.scopes is not None and not caller.scopes & needed:
        named = " or ".join(sorted(needed))
        raise InsufficientScopeError(
            f"this API key has not the scope {named}; use one that has, or make one with `rag-server keys create NAME --scope "
            f"{min(needed)}`"
        )


def refuse_foreign(headers: Headers, *, host: str) -> None:
    """Refuse what a page from elsewhere sends to a server that needs no key, through the browser of whoever runs it.

    Such a page has a name of its own, in `Origin`, or in `Host` where it has that name resolved to this machine. `host` is
    what this server listens on; one that is meant for other machines may go by any name.

    Raises:
        ForbiddenError: The request bears a foreign name.
    """
    own = headers.get("host", "")
    if is_loopback(host) and not is_loopback(_hostname(f"//{own}")):
        raise ForbiddenError(
            "without API keys this server answers to localhost and 127.0.0.1 only, not to the name in `Host`; make a key with "
            "`rag-server keys create NAME` and send it"
        )
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != own and not is_loopback(_hostname(origin)):
        raise ForbiddenError(
            "without API keys this server takes nothing from web pages of other servers (`Origin`); make a key with "
            "`rag-server keys create NAME` and send it"
        )


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
