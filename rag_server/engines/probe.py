"""Whether the engine answers: asked for by anyone who looks, but of the engine only once at a time and in a moment."""

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

TIMEOUT_S = 2.0
KEPT_S = 1.0


class Replicated(Protocol):
    """An engine of one or several replicas."""

    async def faults(self, timeout_s: float) -> list[str | None]:
        """Return, of each replica, why it does not answer in that time, None if it does."""


class EngineProbe:
    """Asks the replicas of the engine."""

    def __init__(self, engine: Replicated) -> None:
        self._engine = engine
        self._asked: asyncio.Task[list[str | None]] | None = None
        self._asked_at = 0.0

    async def faults(self) -> list[str | None]:
        """Return, of each replica, why it is not ready, None if it is; all who ask at the same time get the same answer."""
        now = time.monotonic()
        if self._asked is None or (self._asked.done() and now - self._asked_at > KEPT_S):
            self._asked, self._asked_at = asyncio.create_task(self._engine.faults(TIMEOUT_S)), now
        # Who goes away does not take the answer from the others.
        return await asyncio.shield(self._asked)


def engine_names(faults: Sequence[str | None]) -> list[str]:
    """Return what each replica is called where everyone may read it; the addresses are known to those who set them."""
    return [f"engine {number}" for number in range(1, len(faults) + 1)]


def all_faults(faults: Sequence[str | None]) -> str:
    """Return the faults of all replicas in one sentence, of a single one as it is."""
    if len(faults) == 1:
        return str(faults[0])
    return "; ".join(f"{name}: {fault}" for name, fault in zip(engine_names(faults), faults, strict=True))
