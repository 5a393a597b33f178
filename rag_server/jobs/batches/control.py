"""Looks at the engine and at what gets done, and sets the number of rows that run at once."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median

from rag_server.engines.engine_load import EngineLoad
from rag_server.jobs.batches.concurrency import Observation, adjusted
from rag_server.jobs.batches.gate import Gate

# How often, while it still doubles, and afterwards.
FAST_S = 0.25
SLOW_S = 1.0
STEP_S = 0.05
# A process that computes less than this share of the time is late because others, such as an engine beside it, leave it no
# processor: fewer rows in it would not help.
OWN_SHARE = 0.5
# An engine that did not tell its load is asked again after this time.
SILENT_S = 30.0


@dataclass(frozen=True, slots=True)
class Looks:
    """What is looked at: the engine's load by its own numbers, and how many requests of this process are with it now."""

    read_load: Callable[[], Awaitable[EngineLoad | None]]
    num_asked: Callable[[], int]


class Control:
    """Sets the places of a gate for as long as `run` runs."""

    def __init__(self, gate: Gate, looks: Looks) -> None:
        self._gate = gate
        self._looks = looks
        self._ask_from = -math.inf
        self._began_at = 0.0

    async def run(self) -> None:
        """Return never."""
        while True:
            known = self._gate.known
            late_s = await _lateness(FAST_S if 2 * known.limit <= known.ceiling else SLOW_S)
            if self._gate.running:
                await self.look(late_s)
            else:
                self._begin_anew()

    async def look(self, late_s: float = 0.0) -> None:
        """Make one observation, if there is anything to be seen, and act on it."""
        gate, now = self._gate, time.monotonic()
        load = await self._load(now)
        # Without numbers of the engine, what a limit gets done is known once as many rows have had their turn.
        is_early = load is None and not gate.was_refused and (gate.num_rows < gate.known.limit or now - self._began_at < SLOW_S)
        if is_early or (gate.outage.is_on and not gate.was_refused):
            return
        rate = gate.work_done / max(now - self._began_at, 1e-6)
        is_used = gate.was_full and not gate.was_held
        seen = Observation(
            load,
            running=gate.running,
            asked=self._looks.num_asked(),
            rate=rate,
            is_used=is_used,
            refused=gate.was_refused,
            shared=gate.was_held,
            late_s=late_s,
        )
        gate.adjust(adjusted(gate.known, seen))
        self._begin_anew()

    async def _load(self, now: float) -> EngineLoad | None:
        if now < self._ask_from:
            return None
        load = await self._looks.read_load()
        if load is None and not self._gate.outage.is_on:
            self._ask_from = now + SILENT_S
        return load

    def _begin_anew(self) -> None:
        gate = self._gate
        gate.num_rows = gate.work_done = 0
        gate.was_refused = gate.was_held = False
        # Who still waits would not say so again.
        gate.was_full = gate.is_full
        self._began_at = time.monotonic()


async def _lateness(seconds: float) -> float:
    """Wait, and return how much too late its own work makes this process, in the middle of several times."""
    clock = asyncio.get_running_loop().time
    late: list[float] = []
    began_at, computed = clock(), time.process_time()
    for _ in range(round(seconds / STEP_S)):
        due = clock() + STEP_S
        await asyncio.sleep(STEP_S)
        late.append(clock() - due)
    is_own = time.process_time() - computed > OWN_SHARE * (clock() - began_at)
    return median(late) if is_own else 0.0
