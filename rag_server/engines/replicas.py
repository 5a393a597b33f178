"""The replicas of an engine: how much each has to do, which are left out for now, and which gets the next request."""

import asyncio
import math
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Literal

import structlog
from prometheus_client import Counter, Gauge

from rag_server.engines.addresses import addresses_in, without_password
from rag_server.engines.engine_load import EngineLoad, EngineMetrics
from rag_server.engines.replica_choice import Standing, chosen, prompt_prefix
from rag_server.protocols import Json
from rag_server.task_end import end_tasks

log = structlog.get_logger()

ASKED = Counter(
    "rag_engine_requests_total", "Requests to each replica of the engine, by what came of them.", ["engine", "outcome"]
)
RUNNING = Gauge("rag_engine_running", "Requests of this server that a replica of the engine has not answered yet.", ["engine"])

# How often the replicas are asked for their queues, while there are requests.
LOOK_EVERY_S = 1.0
# One that did not answer gets no request for so long; then one request finds out.
REST_S = 5.0


class Replica:
    """One address of an engine. Whoever reads metrics learns its name, which says where it stands in the setting."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self._num_asked = 0
        self._load: EngineLoad | None = None
        self._num_asked_then = 0
        self._is_away = False
        self._rests_until = -math.inf

    @property
    def queue(self) -> int:
        """How many requests run or wait there: as it told, with what has changed here since, or ours alone."""
        if self._load is None:
            return self._num_asked
        return max(self._num_asked, self._load.running + self._load.waiting + self._num_asked - self._num_asked_then)

    @property
    def rests(self) -> bool:
        """Whether it is left out now."""
        return self._is_away and time.monotonic() < self._rests_until

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Count a request until the block ends."""
        if self._is_away:
            # The others wait for what this one finds out.
            self._rests_until = time.monotonic() + REST_S
        self._num_asked += 1
        RUNNING.labels(self.name).inc()
        try:
            yield
        finally:
            self._num_asked -= 1
            RUNNING.labels(self.name).dec()

    def note_load(self, load: EngineLoad | None) -> None:
        """Take what it tells of its queue, None where it tells nothing."""
        self._load, self._num_asked_then = load, self._num_asked

    def answered(self) -> None:
        """Note that it answers."""
        ASKED.labels(self.name, "answered").inc()
        if self._is_away:
            log.info("an engine answers again", engine=self.name)
        self._is_away = False

    def broke_off(self) -> None:
        """Note that a connection broke: maybe one that had been idle for too long, so the replica is not left out for it."""
        ASKED.labels(self.name, "broken").inc()

    def failed(self, outcome: Literal["unreachable", "overloaded"], reason: str) -> None:
        """Note that it cannot serve requests now, whatever they are."""
        ASKED.labels(self.name, outcome).inc()
        if not self._is_away:
            log.warning(f"an engine is {outcome}", engine=self.name, url=without_password(self.address), reason=reason)
        self._is_away = True
        self._rests_until = time.monotonic() + REST_S


class Replicas:
    """The replicas behind a base URL, which is asked for at each request, since a restarted child has a new one."""

    def __init__(self, base_url: Callable[[], str], *, name: str = "engine") -> None:
        """Ask nobody yet; `base_url` returns one address or several with commas between them."""
        self._base_url = base_url
        self._name = name
        self._known: dict[str, Replica] = {}
        self._metrics = EngineMetrics(base_url)
        self._looking: asyncio.Task[None] | None = None
        self._looked_at = -math.inf

    async def aclose(self) -> None:
        """Close every connection."""
        if self._looking is not None:
            await end_tasks(self._looking)
        await self._metrics.aclose()

    def next(self, body: Json | None, tried: Collection[Replica]) -> Replica:
        """Return the replica to ask for this request: where there is one, one that does not rest and was not tried.

        Raises:
            EngineUnavailableError: The engine is a child of this server and has no address now.
        """
        replicas = self.all()
        self._look()
        ready = [replica for replica in replicas if not replica.rests and replica not in tried] or replicas
        standings = [Standing(replica.address, replica.queue) for replica in ready]
        return self._known[chosen(standings, prompt_prefix(body) if len(ready) > 1 else None)]

    def all(self) -> list[Replica]:
        """Return the replicas in the order of the setting.

        Raises:
            EngineUnavailableError: The engine is a child of this server and has no address now.
        """
        addresses = addresses_in(self._base_url())
        self._known = {
            address: self._known.get(address) or Replica(f"{self._name} {number}", address)
            for number, address in enumerate(addresses, start=1)
        }
        return list(self._known.values())

    def _look(self) -> None:
        """Ask for the queues, where there is a choice; nobody waits for it."""
        now = time.monotonic()
        is_looking = self._looking is not None and not self._looking.done()
        if len(self._known) > 1 and not is_looking and now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            self._looking = asyncio.create_task(self._read_loads())

    async def _read_loads(self) -> None:
        for address, load in (await self._metrics.read_each()).items():
            if address in self._known:
                self._known[address].note_load(load)
