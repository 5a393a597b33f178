"""Conversations and their items."""

import asyncio
from functools import partial

from fastapi import APIRouter

from rag_server.api.deps import AccessDep, ServicesDep
from rag_server.api.listing import PageDep, list_object
from rag_server.api.responses.bodies import AddItemsBody, CreateConversationBody, UpdateConversationBody
from rag_server.api.responses.including import IncludeDep
from rag_server.api.responses.items import Item, stored_items
from rag_server.api.responses.shape import shown_item, shown_items
from rag_server.protocols import Json
from rag_server.services import Services
from rag_server.types import Access, Conversation

router = APIRouter()


@router.post("/v1/conversations")
async def create_conversation(services: ServicesDep, access: AccessDep, body: CreateConversationBody | None = None) -> Json:
    """Begin a conversation, with items and metadata if there are any."""
    begun = body or CreateConversationBody()
    items = await _stored(begun.items or [], services, access)
    conversation = await asyncio.to_thread(services.store.conversations.create, begun.metadata or {}, items, access)
    return _conversation_object(conversation)


@router.get("/v1/conversations/{conversation_id}")
async def get_conversation(conversation_id: str, services: ServicesDep, access: AccessDep) -> Json:
    """Return a conversation; its items have addresses of their own."""
    return _conversation_object(await asyncio.to_thread(services.store.conversations.get, conversation_id, access))


@router.post("/v1/conversations/{conversation_id}")
async def update_conversation(
    conversation_id: str, body: UpdateConversationBody, services: ServicesDep, access: AccessDep
) -> Json:
    """Replace the metadata of a conversation; null takes them away."""
    store = services.store.conversations
    return _conversation_object(await asyncio.to_thread(store.set_metadata, conversation_id, body.metadata or {}, access))


@router.delete("/v1/conversations/{conversation_id}")
async def delete_conversation(conversation_id: str, services: ServicesDep, access: AccessDep) -> Json:
    """Remove a conversation with its items; the responses that were made in it stay."""
    await asyncio.to_thread(services.store.conversations.delete, conversation_id, access)
    return {"id": conversation_id, "object": "conversation.deleted", "deleted": True}


@router.post("/v1/conversations/{conversation_id}/items")
async def add_items(
    conversation_id: str, body: AddItemsBody, services: ServicesDep, access: AccessDep, include: IncludeDep
) -> Json:
    """Put items at the end of a conversation; return them with their ids."""
    items = await _stored(body.items, services, access)
    await asyncio.to_thread(services.store.conversations.add, conversation_id, items, access)
    return list_object(shown_items(items, include))


@router.get("/v1/conversations/{conversation_id}/items")
async def list_items(
    conversation_id: str, page: PageDep, services: ServicesDep, access: AccessDep, include: IncludeDep
) -> Json:
    """List the items of a conversation, the newest first."""
    found, has_more = await asyncio.to_thread(services.store.conversations.page, conversation_id, access, page)
    return list_object(shown_items(found, include), has_more=has_more)


@router.get("/v1/conversations/{conversation_id}/items/{item_id}")
async def get_item(conversation_id: str, item_id: str, services: ServicesDep, access: AccessDep, include: IncludeDep) -> Json:
    """Return one item."""
    return shown_item(await asyncio.to_thread(services.store.conversations.item, conversation_id, item_id, access), include)


@router.delete("/v1/conversations/{conversation_id}/items/{item_id}")
async def delete_item(conversation_id: str, item_id: str, services: ServicesDep, access: AccessDep) -> Json:
    """Remove one item; return the conversation."""
    store = services.store.conversations
    return _conversation_object(await asyncio.to_thread(store.delete_item, conversation_id, item_id, access))


async def _stored(items: list[Item], services: Services, access: Access) -> list[Json]:
    find = partial(services.store.responses.find_items, access=access)
    return await asyncio.to_thread(stored_items, items, find, param="items")


def _conversation_object(conversation: Conversation) -> Json:
    return {
        "id": conversation.id,
        "object": "conversation",
        "created_at": conversation.created_at,
        "metadata": dict(conversation.metadata),
    }
