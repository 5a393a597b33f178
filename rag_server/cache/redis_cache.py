"""A cache in Redis or Valkey. A server that is down or slow means a miss, a counter and one line in the log, never an error."""

from collections.abc import Callable

from rag_server.cache.connection import FAILURES, Connection
from rag_server.observability import CACHE_LOOKUPS

KEY_PREFIX = "rag:"
# Computing most cached values takes about ten milliseconds: waiting longer for one is pointless.
TIMEOUT_S = 0.25
# Larger than any list of hits and nearly every answer; one value must not push out all others.
MAX_VALUE_BYTES = 1024**2


class RedisCache:
    """Values under a prefix of their own, so that a shared server is not disturbed."""

    def __init__(self, url: Callable[[], str | None]) -> None:
        """Take the address when it is needed: None means that the server is not up (yet)."""
        self._connection = Connection(url, complaint="the cache cannot be reached; going on without it")

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None."""
        what = key.partition(":")[0]
        redis = self._connection.client(TIMEOUT_S)
        if redis is None:
            return _missed(what, "unavailable")
        try:
            value = await redis.get(KEY_PREFIX + key)
        except FAILURES as error:
            self._connection.failed(error)
            return _missed(what, "unavailable")
        self._connection.worked()
        if not isinstance(value, bytes):
            return _missed(what, "miss")
        CACHE_LOOKUPS.labels(what, "hit").inc()
        return value

    async def set(self, key: str, value: bytes, ttl_s: int) -> None:
        """Keep the value for at most `ttl_s` seconds; one of more than a mebibyte is not kept."""
        redis = self._connection.client(TIMEOUT_S)
        if redis is None or len(value) > MAX_VALUE_BYTES:
            return
        try:
            await redis.set(KEY_PREFIX + key, value, ex=ttl_s)
        except FAILURES as error:
            self._connection.failed(error)

    async def ping(self) -> bool:
        """Return whether the server answers."""
        redis = self._connection.client(TIMEOUT_S)
        try:
            return redis is not None and bool(await redis.ping())
        except FAILURES:
            return False

    async def aclose(self) -> None:
        """Close every connection."""
        await self._connection.aclose()


def _missed(what: str, outcome: str) -> bytes | None:
    CACHE_LOOKUPS.labels(what, outcome).inc()
    return None
