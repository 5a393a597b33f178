"""Counts what API keys use, in Redis or Valkey; one round trip, all limits of a request at once or none of them."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import Counter
from redis.commands.core import AsyncScript

from rag_server.cache.connection import FAILURES, Connection

LimitKind = Literal["rate", "quota"]

CHECKS = Counter("rag_rate_limit_checks_total", "Looks at what an API key has used.", ["outcome"])
KEY_PREFIX = "rag:limit:"
# Like the cache: a limit is not worth a longer wait.
TIMEOUT_S = 0.25
MINUTE_S, DAY_S = 60, 86_400

# Per key of KEYS four of ARGV after the first: "rate" or "quota", limit, period in seconds, cost. The first says whether to
# refuse. A rate is a bucket of `limit` that fills evenly (the generic cell rate algorithm, kept as the time at which it is full
# again, ITU-T I.371); a quota is the number of the period, as counted from the epoch, and the sum within it. What costs 0 needs
# something left; what costs less than 0 gives back. The keys never expire: there are some for each caller and no more, and what
# has no end is not evicted to make room for the cache (`volatile-lru`).
# Returns the number of the first limit that is used up, or 0, and for each what is left and the seconds until it is whole
# again, and until it is enough.
LUA = """
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local refusing = ARGV[1] == '1'
local answer, refused = {}, 0
local states = {}
for i, key in ipairs(KEYS) do
  local kind, limit = ARGV[4 * i - 2], tonumber(ARGV[4 * i - 1])
  local period, cost = tonumber(ARGV[4 * i]), tonumber(ARGV[4 * i + 1])
  local stored = redis.call('GET', key) or ''
  if kind == 'quota' then
    local number, sum = string.match(stored, '^(%d+):(%d+)$')
    stored = tonumber(number or '-1') == math.floor(now / period) and tonumber(sum) or 0
  else
    stored = tonumber(stored) or 0
  end
  local needed = math.max(cost, 1)
  local left, enough
  if kind == 'rate' then
    local full_at = math.max(stored, now)
    left = limit - (full_at - now) * limit / period
    enough = (needed - left) * period / limit
  else
    left = limit - stored
    enough = period - now % period
  end
  -- Times are fractions of seconds: what is short by a rounding error is there.
  if left + 0.000001 < needed and refused == 0 and refusing then refused = i end
  states[i] = {kind, stored, left, enough, limit, period, cost}
end
for i, key in ipairs(KEYS) do
  local kind, stored, left, enough, limit, period, cost = unpack(states[i])
  if refused == 0 and cost ~= 0 then
    left = math.min(left - cost, limit)
    if kind == 'rate' then
      redis.call('SET', key, string.format('%.6f', math.max(stored, now) + cost * period / limit))
    else
      redis.call('SET', key, string.format('%.0f:%.0f', math.floor(now / period), math.max(stored + cost, 0)))
    end
  end
  local whole = kind == 'rate' and (limit - left) * period / limit or period - now % period
  table.insert(answer, tostring(left))
  table.insert(answer, tostring(whole))
  table.insert(answer, tostring(enough))
end
return {refused, answer}
"""


@dataclass(frozen=True, slots=True)
class Limit:
    """How much of something a caller may use: evenly over `period_s` as a rate, or within it as a quota."""

    name: str
    kind: LimitKind
    limit: int
    period_s: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of a limit, and the seconds until it is whole again, and until there is enough for what was asked."""

    limit: Limit
    remaining: int
    reset_s: float
    enough_in_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a caller stands; `refused` is the limit that does not allow the request."""

    standings: tuple[Standing, ...] = ()
    refused: Standing | None = None


class RateLimiter:
    """Limits in a server that several of ours may share. While it cannot be reached nothing is limited."""

    def __init__(self, url: Callable[[], str | None]) -> None:
        """Take the address when it is needed: None means that the server is not up (yet)."""
        self._connection = Connection(url, complaint="the limits of API keys cannot be counted; nobody is limited now")
        self._script: AsyncScript | None = None
        self._charges: set[asyncio.Task[Verdict]] = set()

    async def take(self, caller: str, costs: Sequence[tuple[Limit, int]]) -> Verdict:
        """Return how the caller stands after the costs, of which none is taken if one of them is refused.

        A cost of 0 is refused when nothing is left: what it really costs is charged later.
        """
        return await self._run(caller, costs, refusing=True)

    def charge(self, caller: str, costs: Sequence[tuple[Limit, int]]) -> None:
        """Take the costs, whatever is left; nobody waits for it."""
        self._begin(caller, costs)

    def give_back(self, caller: str, costs: Sequence[tuple[Limit, int]], *, taken_s: float) -> None:
        """Undo the taking of the costs at that time, in seconds of the epoch; of a period that is over nothing comes back."""
        now_s = time.time()
        same_period = [(limit, -cost) for limit, cost in costs if now_s // limit.period_s == taken_s // limit.period_s]
        if same_period:
            self._begin(caller, same_period)

    def _begin(self, caller: str, costs: Sequence[tuple[Limit, int]]) -> None:
        task = asyncio.ensure_future(self._run(caller, costs, refusing=False))
        self._charges.add(task)
        task.add_done_callback(self._charges.discard)

    async def aclose(self) -> None:
        """Finish what is to be charged, and close every connection."""
        await asyncio.gather(*self._charges)
        await self._connection.aclose()

    async def _run(self, caller: str, costs: Sequence[tuple[Limit, int]], *, refusing: bool) -> Verdict:
        script = self._connected()
        if script is None:
            return self._allowed()
        keys = [_key(caller, limit) for limit, _ in costs]
        arguments = [part for limit, cost in costs for part in (limit.kind, limit.limit, limit.period_s, cost)]
        try:
            refused, numbers = await script(keys=keys, args=[int(refusing), *arguments])
        except FAILURES as error:
            return self._allowed(error)
        self._connection.worked()
        CHECKS.labels("refused" if refused else "allowed").inc()
        values = [float(number) for number in numbers]
        standings = tuple(
            Standing(limit, max(0, int(left + 1e-6)), max(0.0, whole), max(0.0, enough))
            for (limit, _), left, whole, enough in zip(costs, values[::3], values[1::3], values[2::3], strict=True)
        )
        return Verdict(standings, standings[refused - 1] if refused else None)

    def _connected(self) -> AsyncScript | None:
        redis = self._connection.client(TIMEOUT_S)
        if redis is not None and self._script is None:
            self._script = redis.register_script(LUA)
        return None if redis is None else self._script

    def _allowed(self, error: Exception | None = None) -> Verdict:
        CHECKS.labels("unavailable").inc()
        self._connection.failed(error)
        return Verdict()


def _key(caller: str, limit: Limit) -> str:
    # The braces keep a caller's keys on one node of a cluster.
    return f"{KEY_PREFIX}{{{caller}}}:{limit.name}"
