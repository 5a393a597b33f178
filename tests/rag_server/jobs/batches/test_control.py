"""What sets the number of rows looks at: the engine's load, and how late this process is through its own work."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace

import pytest

from rag_server.engines.engine_load import EngineLoad
from rag_server.jobs.batches import control
from rag_server.jobs.batches.concurrency import FIRST_LIMIT
from rag_server.jobs.batches.control import Control, Looks
from rag_server.jobs.batches.gate import Gate
from rag_server.live_traffic import LiveTraffic

LIMIT = 2 * FIRST_LIMIT


@contextlib.asynccontextmanager
async def late_loop() -> AsyncIterator[None]:
    """Block the event loop again and again, so that everything in it comes late."""

    async def block() -> None:
        while True:
            time.sleep(0.06)  # noqa: ASYNC251 - that is what makes it late
            await asyncio.sleep(0)

    task = asyncio.ensure_future(block())
    try:
        yield
    finally:
        task.cancel()


@pytest.mark.parametrize(("computing", "shrinks"), [(0.9, True), (0.1, False)])
async def test_only_its_own_work_is_a_reason_for_fewer_rows(
    monkeypatch: pytest.MonkeyPatch, computing: float, shrinks: bool
) -> None:
    """A process that is late and computes takes fewer rows; one that is late because others have the processor takes more."""
    clock = SimpleNamespace(monotonic=time.monotonic, process_time=lambda: computing * time.monotonic())
    monkeypatch.setattr(control, "time", clock)
    gate = Gate(LiveTraffic(), 256)
    gate.adjust(replace(gate.known, limit=LIMIT))
    for _ in range(LIMIT):
        await gate.enter()
    waiting = asyncio.ensure_future(gate.enter())

    async def load() -> EngineLoad:
        return EngineLoad(running=gate.running, waiting=0)

    running = asyncio.ensure_future(Control(gate, Looks(load, lambda: gate.running)).run())
    async with late_loop(), asyncio.timeout(30):
        while gate.known.limit == LIMIT:
            await asyncio.sleep(0.01)
    running.cancel()
    waiting.cancel()

    assert (gate.known.limit < LIMIT) == shrinks
