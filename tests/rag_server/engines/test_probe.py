"""Looks at the engine: few, short, and the same for all who look at once."""

import asyncio

import pytest

from rag_server.engines import probe
from rag_server.engines.probe import EngineProbe, all_faults, engine_names


class Engine:
    """Stands in for one at the edge: it counts who asks, and answers when it is let."""

    def __init__(self, *faults: str | None) -> None:
        self.asked = 0
        self.answers = asyncio.Event()
        self.faulty = list(faults)

    async def faults(self, timeout_s: float) -> list[str | None]:
        assert timeout_s == probe.TIMEOUT_S
        self.asked += 1
        await self.answers.wait()
        return self.faulty


async def test_all_who_look_at_once_ask_once() -> None:
    """Whoever goes away meanwhile costs the others nothing."""
    engine = Engine(None)
    found = EngineProbe(engine)
    looking = [asyncio.create_task(found.faults()) for _ in range(5)]
    await asyncio.sleep(0)
    looking[0].cancel()
    await asyncio.sleep(0)
    engine.answers.set()

    assert await asyncio.gather(*looking[1:]) == [[None]] * 4
    assert await found.faults() == [None]
    assert engine.asked == 1


async def test_what_is_known_is_soon_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that failed is ready as soon as it answers."""
    monkeypatch.setattr(probe, "KEPT_S", 0.0)
    engine = Engine("down")
    engine.answers.set()
    found = EngineProbe(engine)
    assert await found.faults() == ["down"]
    engine.faulty = [None]
    await asyncio.sleep(0.001)

    assert await found.faults() == [None]


def test_replicas_are_named_by_their_places() -> None:
    """A single engine needs no name; of several, each fault says whose it is."""
    assert engine_names([None, "down"]) == ["engine 1", "engine 2"]
    assert all_faults(["down"]) == "down"
    assert all_faults(["down", "slow"]) == "engine 1: down; engine 2: slow"
