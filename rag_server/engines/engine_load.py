"""How busy the engine is, by its own metrics: vLLM tells how many requests run in it and how many wait."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp

from rag_server.coalescing import all_of
from rag_server.engines.addresses import addresses_in, url_at
from rag_server.errors import EngineUnavailableError

TIMEOUT_S = 2.0
MAX_BYTES = 4 * 1024**2
# One line for each engine behind the address, such as `vllm:num_requests_waiting{engine="0"} 3.0`; the cache's are in tokens.
_CACHE = re.compile(r"^vllm:prefix_cache_(queries|hits)_total(?:\{[^\n]*\})? ([0-9.eE+]+)$", re.MULTILINE)
_GAUGE = re.compile(r"^vllm:num_requests_(running|waiting)(?:\{[^\n]*\})? ([0-9.eE+]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """Requests that run in the engine and that wait in it, whoever sent them.

    `prefix_hit_rate` is the share of prompt tokens that were in its prefix cache since it started, None before the first.
    """

    running: int
    waiting: int
    prefix_hit_rate: float | None = None


class EngineMetrics:
    """Reads /metrics, which vLLM serves beside /v1, without the engine's key: it asks for none."""

    def __init__(self, base_url: Callable[[], str]) -> None:
        """Ask nobody yet; `base_url` returns one address or several with commas between them."""
        self._base_url = base_url
        self._opened: aiohttp.ClientSession | None = None

    async def aclose(self) -> None:
        """Close every connection."""
        if self._opened is not None:
            await self._opened.close()
            self._opened = None

    async def read(self) -> EngineLoad | None:
        """Return the load of all addresses together, None where the engine does not tell it, or not now."""
        return load_of("\n".join((await self._read_all()).values()))

    async def read_each(self) -> dict[str, EngineLoad | None]:
        """Return the load at each address."""
        return {address: load_of(text) for address, text in (await self._read_all()).items()}

    async def _read_all(self) -> dict[str, str]:
        try:
            addresses = addresses_in(self._base_url())
        except EngineUnavailableError:
            return {}
        return dict(zip(addresses, await all_of(map(self._read, addresses)), strict=True))

    async def _read(self, address: str) -> str:
        """Return what an address tells, nothing if it cannot be read."""
        try:
            async with self._session().get(url_at(address, "/metrics"), allow_redirects=False) as response:
                if response.status != 200:
                    return ""
                content = bytearray()
                async for part in response.content.iter_any():
                    content += part
                    if len(content) > MAX_BYTES:
                        return ""
                return content.decode(errors="replace")
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return ""

    def _session(self) -> aiohttp.ClientSession:
        if self._opened is None:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
            self._opened = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
        return self._opened


def load_of(metrics: str) -> EngineLoad | None:
    """Return the load that metrics in Prometheus' text format tell, None if they tell none."""
    totals = _totals(_GAUGE, metrics)
    if len(totals) < 2 or max(totals.values()) > 1e9:
        return None
    return EngineLoad(int(totals["running"]), int(totals["waiting"]), _hit_rate(_totals(_CACHE, metrics)))


def _hit_rate(totals: Mapping[str, float]) -> float | None:
    queries, hits = totals.get("queries", 0.0), totals.get("hits", 0.0)
    return hits / queries if 0 <= hits <= queries and 0 < queries < math.inf else None


def _totals(pattern: re.Pattern[str], metrics: str) -> dict[str, float]:
    """Return the sum of the values under each name, nothing if one of them is no number."""
    totals: dict[str, float] = {}
    for name, value in pattern.findall(metrics):
        try:
            totals[name] = totals.get(name, 0.0) + float(value)
        except ValueError:
            return {}
    return totals
