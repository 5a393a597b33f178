"""Watches the client of a request, so that nothing is done for one that has gone away."""

import asyncio

from starlette.types import Message, Receive

from rag_server.usage import current_record


class Presence:
    """Hands on the body of a request, and knows when the client goes away.

    One part of the body is held, so that a large one is read no faster than it is used. Who goes away before the rest of it
    was read is noticed when it is asked for.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._held: Message | None = None
        self._is_gone = False
        self._came, self._taken = asyncio.Event(), asyncio.Event()

    async def until_gone(self) -> None:
        """Return when the client goes away; `receive` waits for what this reads."""
        while (message := await self._receive())["type"] != "http.disconnect":
            self._held = message
            self._taken.clear()
            self._came.set()
            if message.get("more_body", False):
                await self._taken.wait()
        self._is_gone = True
        self._came.set()

    async def receive(self) -> Message:
        """Return the next part of the body, or that the client is gone once it is."""
        while self._held is None:
            if self._is_gone:
                return {"type": "http.disconnect"}
            self._came.clear()
            await self._came.wait()
        message, self._held = self._held, None
        self._taken.set()
        if (record := current_record()) is not None:
            record.body_bytes += len(message.get("body", b""))
        return message
