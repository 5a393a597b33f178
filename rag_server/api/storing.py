"""Keeps the chat completions of requests that say `store: true`, under an id that nobody guesses."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing

from rag_server.api.joined_chunks import JoinedChunks
from rag_server.api.schemas_chat import ChatBody
from rag_server.protocols import Json
from rag_server.store.chat_completions import ChatCompletions
from rag_server.store.ids import new_id
from rag_server.types import Access


class Storing:
    """Keeps the answer to one request; an answer that cannot be kept is an error, since it was asked for."""

    def __init__(self, completions: ChatCompletions, body: ChatBody, access: Access) -> None:
        self._completions = completions
        self._body = body
        self._access = access
        # Engines count, or take what a client sends as its id.
        self._id = new_id("chatcmpl-")

    async def whole(self, answer: Awaitable[Json]) -> Json:
        """Return the completion once it is kept."""
        completion = {**await answer, "id": self._id}
        await self._keep(completion)
        return completion

    async def stream(self, chunks: AsyncGenerator[Json, None]) -> AsyncGenerator[Json, None]:
        """Yield the chunks; what they add up to is kept before the stream ends. A stream that breaks off is not kept."""
        joined = JoinedChunks()
        async with aclosing(chunks):
            async for chunk in chunks:
                named = {**chunk, "id": self._id}
                joined.add(named)
                yield named
        await self._keep(joined.completion())

    async def _keep(self, completion: Json) -> None:
        messages, metadata = self._body.messages, self._body.metadata or {}
        await asyncio.to_thread(self._completions.add, completion, messages, metadata, self._access)
