"""GET /v1/passages/{id}: what a citation's address shows; JSON for programs, a page with the passage marked for people."""

import asyncio
from html import escape
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from rag_server.answer import passage_object
from rag_server.api.deps import AccessDep, PassageUrlDep, ServicesDep
from rag_server.types import Document, Passage

router = APIRouter()

# What a database holds.
PassageId = Annotated[int, Path(ge=0, le=2**63 - 1)]

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><link rel="stylesheet" href="/ui/chat.css"></head>
<body class="document"><header><h1>{title}</h1><p>{filename} · characters {start}–{end}</p></header>
<main><pre>{before}<mark id="passage">{passage}</mark>{after}</pre></main></body></html>"""


@router.get("/v1/passages/{passage_id}")
async def get_passage(
    passage_id: PassageId, request: Request, services: ServicesDep, access: AccessDep, passage_url: PassageUrlDep
) -> Response:
    """Return a passage; to a browser, its whole document with the passage marked."""
    passage, document = await asyncio.to_thread(services.store.passages.passage, passage_id, access)
    if "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(_page(passage, document))
    shown = passage_object(passage, passage_url)
    del shown["score"], shown["rank"]
    return JSONResponse({"object": "passage", **shown, "attributes": dict(passage.attributes)})


def _page(passage: Passage, document: Document) -> str:
    return PAGE.format(
        title=escape(passage.title or passage.filename),
        filename=escape(passage.filename),
        start=passage.start,
        end=passage.end,
        before=escape(document.text[: passage.start]),
        passage=escape(passage.text),
        after=escape(document.text[passage.end :]),
    )
