"""Chat completions that were stored: list, get, update, delete, messages."""

import asyncio
import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request

from rag_server.api.deps import AccessDep, ServicesDep
from rag_server.api.listing import list_object
from rag_server.api.schemas_chat import MetadataBody
from rag_server.errors import InvalidRequestError
from rag_server.protocols import Json
from rag_server.types import Page

router = APIRouter()

METADATA_PARAM = re.compile(r"metadata\[(.*)\]", re.DOTALL)
MAX_METADATA_FILTERS = 16
# What `content_parts` may hold, in OpenAI's description.
SHOWN_PARTS = ("text", "image_url")


async def _page(
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "asc",
    after: Annotated[str | None, Query(max_length=200)] = None,
) -> Page:
    return Page(limit, order, after)


# Other lists of OpenAI's begin with the newest; these two with the oldest.
PageDep = Annotated[Page, Depends(_page)]


@router.get("/v1/chat/completions")
async def list_chat_completions(
    request: Request,
    services: ServicesDep,
    access: AccessDep,
    page: PageDep,
    model: Annotated[str | None, Query(max_length=1000)] = None,
) -> Json:
    """List the stored completions, by model and by metadata (`metadata[key]=value`)."""
    found, has_more = await asyncio.to_thread(
        services.store.chat_completions.page, access, page, model=model, metadata=_metadata_filters(request)
    )
    return list_object(found, has_more=has_more)


@router.get("/v1/chat/completions/{completion_id}")
async def get_chat_completion(completion_id: str, services: ServicesDep, access: AccessDep) -> Json:
    """Return a stored completion."""
    return await asyncio.to_thread(services.store.chat_completions.get, completion_id, access)


@router.post("/v1/chat/completions/{completion_id}")
async def update_chat_completion(completion_id: str, body: MetadataBody, services: ServicesDep, access: AccessDep) -> Json:
    """Replace the metadata of a stored completion; null takes them away."""
    return await asyncio.to_thread(services.store.chat_completions.set_metadata, completion_id, body.metadata or {}, access)


@router.delete("/v1/chat/completions/{completion_id}")
async def delete_chat_completion(completion_id: str, services: ServicesDep, access: AccessDep) -> Json:
    """Remove a stored completion."""
    await asyncio.to_thread(services.store.chat_completions.delete, completion_id, access)
    return {"object": "chat.completion.deleted", "id": completion_id, "deleted": True}


@router.get("/v1/chat/completions/{completion_id}/messages")
async def list_messages(completion_id: str, services: ServicesDep, access: AccessDep, page: PageDep) -> Json:
    """List the messages of the request that a stored completion answers."""
    messages = await asyncio.to_thread(services.store.chat_completions.messages, completion_id, access)
    shown = [_message(completion_id, index, message) for index, message in enumerate(messages)]
    if page.order == "desc":
        shown.reverse()
    if page.after is not None:
        ids = [message["id"] for message in shown]
        if page.after not in ids:
            raise InvalidRequestError(f"there is no object {page.after!r} in this list", "after")
        shown = shown[ids.index(page.after) + 1 :]
    return list_object(shown[: page.limit], has_more=len(shown) > page.limit)


def _metadata_filters(request: Request) -> dict[str, str]:
    matched = ((METADATA_PARAM.fullmatch(name), value) for name, value in request.query_params.multi_items())
    filters = {match.group(1): value for match, value in matched if match is not None}
    if len(filters) > MAX_METADATA_FILTERS:
        raise InvalidRequestError(f"metadata has at most {MAX_METADATA_FILTERS} keys", "metadata")
    return filters


def _message(completion_id: str, index: int, message: Json) -> Json:
    """Return a message with its id; parts of its content stand apart from its text."""
    content: Any = message.get("content")
    parts = None
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict) and part.get("type") in SHOWN_PARTS]
        content = "\n".join(str(part["text"]) for part in parts if "text" in part)
    added = {"id": f"{completion_id}-{index}", "content": content, "content_parts": parts}
    return {"refusal": None, "name": None, **message, **added}
