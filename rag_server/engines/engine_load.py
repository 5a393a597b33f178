"""How busy the engine is, by its own metrics: vLLM tells how many requests run in it and how many wait."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from rag_server.errors import EngineUnavailableError

TIMEOUT_S = 2.0
MAX_BYTES = 4 * 1024**2
# One line for each engine behind the address, such as `vllm:num_requests_waiting{engine="0"} 3.0`.
_GAUGE = re.compile(r"^vllm:num_requests_(running|waiting)(?:\{[^\n]*\})? ([0-9.eE+]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """Requests that run in the engine and that wait in it, whoever sent them."""

    running: int
    waiting: int


class EngineMetrics:
    """Reads /metrics, which vLLM serves beside /v1, without the engine's key: it asks for none."""

    def __init__(self, base_url: Callable[[], str]) -> None:
        self._base_url = base_url
        self._opened: aiohttp.ClientSession | None = None

    async def aclose(self) -> None:
        """Close every connection."""
        if self._opened is not None:
            await self._opened.close()
            self._opened = None

    async def read(self) -> EngineLoad | None:
        """Return the load, None where the engine does not tell it, or not now."""
        try:
            url = f"{self._base_url().rstrip('/').removesuffix('/v1')}/metrics"
            async with self._session().get(url, allow_redirects=False) as response:
                if response.status != 200:
                    return None
                content = bytearray()
                async for part in response.content.iter_any():
                    content += part
                    if len(content) > MAX_BYTES:
                        return None
                return load_of(content.decode(errors="replace"))
        except (aiohttp.ClientError, TimeoutError, ValueError, EngineUnavailableError):
            return None

    def _session(self) -> aiohttp.ClientSession:
        if self._opened is None:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
            self._opened = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
        return self._opened


def load_of(metrics: str) -> EngineLoad | None:
    """Return the load that metrics in Prometheus' text format tell, None if they tell none."""
    totals: dict[str, float] = {}
    for name, value in _GAUGE.findall(metrics):
        try:
            totals[name] = totals.get(name, 0.0) + float(value)
        except ValueError:
            return None
    if len(totals) < 2 or max(totals.values()) > 1e9:
        return None
    return EngineLoad(int(totals["running"]), int(totals["waiting"]))
