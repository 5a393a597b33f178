"""The page: its built files, and the way from the address of a passage to it."""

import mimetypes
import os
import re
from collections.abc import Mapping
from pathlib import Path

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

# Where `make ui` puts it.
UI_FOLDER = Path(__file__).parent.parent / "ui" / "dist"
NOT_BUILT = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>rag-server</title></head>'
    "<body><p>The page is not built yet: run <code>make ui</code>, then reload.</p></body></html>"
)
# Their names change with what is in them.
ASSETS = "assets/"
FOR_EVER = "public, max-age=31536000, immutable"
ASK_AGAIN = "no-cache"

_PASSAGE = re.compile(r"/v1/passages/([0-9]{1,19})")


def page_routes(folder: Path) -> list[BaseRoute]:
    """Return the routes of the page whose built files are in `folder`; it may be built while the server runs."""
    built = _Built(folder)

    async def index(request: Request) -> Response:
        if not (folder / "index.html").is_file():
            return HTMLResponse(NOT_BUILT, status_code=503, headers={"cache-control": "no-store"})
        return await built.get_response("index.html", request.scope)

    return [Route("/", index, methods=["GET"], include_in_schema=False), Mount("/ui", app=built, name="ui")]


class _Built(StaticFiles):
    """Serves the files, packed where they lie packed beside themselves and the browser takes that."""

    def __init__(self, folder: Path) -> None:
        super().__init__(directory=folder, check_dir=False)
        self._assets = folder / ASSETS

    async def check_config(self) -> None:
        """Check nothing: where no page is built, there are no files, which is not the fault of a request."""

    def file_response(
        self, full_path: "str | os.PathLike[str]", stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Return the file, or 304 where the browser has it already."""
        path = Path(full_path)
        headers = {"cache-control": self._cache_control(path), "vary": "accept-encoding"}
        asked = Headers(scope=scope)
        packed = path.with_name(f"{path.name}.gz")
        if _takes_gzip(asked) and (found := _stat(packed)) is not None:
            path, stat_result = packed, found
            headers["content-encoding"] = "gzip"
        media_type = mimetypes.guess_type(full_path)[0] or "application/octet-stream"
        response = FileResponse(path, status_code, headers, media_type, stat_result=stat_result)
        return NotModifiedResponse(response.headers) if self.is_not_modified(response.headers, asked) else response

    def _cache_control(self, path: Path) -> str:
        return FOR_EVER if path.is_relative_to(self._assets.resolve()) else ASK_AGAIN


class PassageLinks:
    """Sends a browser that follows a citation to the page, which asks for the passage with the reader's key.

    Stands before the guard: a browser that follows a link sends no key.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 303, or run the application for everything that is not a browser on its way to a passage."""
        if scope["type"] == "http" and scope["method"] == "GET":
            found = _PASSAGE.fullmatch(scope["path"])
            if found is not None and _is_navigation(Headers(scope=scope)):
                response = RedirectResponse(f"/#/passages/{int(found[1])}", 303, headers={"vary": "accept"})
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_navigation(headers: Mapping[str, str]) -> bool:
    return "text/html" in headers.get("accept", "").lower()


def _takes_gzip(headers: Mapping[str, str]) -> bool:
    """Return whether `Accept-Encoding` names gzip, and not to refuse it."""
    for coding in headers.get("accept-encoding", "").lower().split(","):
        name, _, quality = coding.partition(";")
        if name.strip() == "gzip":
            return re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", quality) is None
    return False


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
