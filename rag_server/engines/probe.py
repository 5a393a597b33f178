"""Whether the engine answers: asked for by anyone who looks, but of the engine only once at a time and in a moment."""

import asyncio
import time

from rag_server.errors import RagServerError
from rag_server.protocols import Engine

TIMEOUT_S = 2.0
KEPT_S = 1.0


class EngineProbe:
    """Asks the engine for its models."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._asked: asyncio.Task[str | None] | None = None
        self._asked_at = 0.0

    async def fault(self) -> str | None:
        """Return why the engine is not ready, None if it is; all who ask at the same time get the same answer."""
        now = time.monotonic()
        if self._asked is None or (self._asked.done() and now - self._asked_at > KEPT_S):
            self._asked, self._asked_at = asyncio.create_task(self._ask()), now
        # Who goes away does not take the answer from the others.
        return await asyncio.shield(self._asked)

    async def _ask(self) -> str | None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._engine.models()
        except TimeoutError:
            return f"the engine did not answer within {TIMEOUT_S:g} seconds"
        except RagServerError as error:
            return str(error)
        return None
