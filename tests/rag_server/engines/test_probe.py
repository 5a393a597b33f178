"""Looks at the engine: few, short, and the same for all who look at once."""

import asyncio

import pytest

from rag_server.engines import probe
from rag_server.engines.probe import EngineProbe
from rag_server.errors import EngineUnavailableError
from rag_server.protocols import Json


class Engine:
    """Stands in for one at the edge: it counts who asks, and answers when it is let."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked = self.ended = 0
        self.answers = asyncio.Event()
        self._error = error

    async def models(self) -> list[Json]:
        self.asked += 1
        try:
            await self.answers.wait()
        finally:
            self.ended += 1
        if self._error is not None:
            raise self._error
        return []


async def test_all_who_look_at_once_ask_once() -> None:
    """Whoever goes away meanwhile costs the others nothing."""
    engine = Engine()
    found = EngineProbe(engine)  # type: ignore[arg-type]
    looking = [asyncio.create_task(found.fault()) for _ in range(5)]
    await asyncio.sleep(0)
    looking[0].cancel()
    await asyncio.sleep(0)
    engine.answers.set()

    assert await asyncio.gather(*looking[1:]) == [None] * 4
    assert await found.fault() is None
    assert engine.asked == 1


async def test_what_is_known_is_soon_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that failed is ready as soon as it answers."""
    monkeypatch.setattr(probe, "KEPT_S", 0.0)
    engine = Engine(EngineUnavailableError("down"))
    engine.answers.set()
    found = EngineProbe(engine)  # type: ignore[arg-type]
    assert await found.fault() == "down"
    engine._error = None
    await asyncio.sleep(0.001)

    assert await found.fault() is None


async def test_silent_engine_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up, and nothing of the question is left behind."""
    monkeypatch.setattr(probe, "TIMEOUT_S", 0.01)
    engine = Engine()

    assert "did not answer" in str(await EngineProbe(engine).fault())  # type: ignore[arg-type]
    assert (engine.asked, engine.ended) == (1, 1)
