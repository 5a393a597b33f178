"""A cache in Redis or Valkey. A server that is down or slow means a miss, a counter and one line in the log, never an error."""

from collections.abc import Callable

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from rag_server.observability import CACHE_LOOKUPS

log = structlog.get_logger()

KEY_PREFIX = "rag:"
# Computing most cached values takes about ten milliseconds: waiting longer for one is pointless.
TIMEOUT_S = 0.25
# Larger than any list of hits and nearly every answer; one value must not push out all others.
MAX_VALUE_BYTES = 1024**2


class RedisCache:
    """Values under a prefix of their own, so that a shared server is not disturbed."""

    def __init__(self, url: Callable[[], str | None]) -> None:
        """Take the address when it is needed: None means that the server is not up (yet)."""
        self._url = url
        self._redis: Redis | None = None
        self._failing = False

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None."""
        what = key.partition(":")[0]
        redis = self._connection()
        if redis is None:
            return _missed(what, "unavailable")
        try:
            value = await redis.get(KEY_PREFIX + key)
        except (RedisError, OSError, TimeoutError) as error:
            self._report(error)
            return _missed(what, "unavailable")
        self._failing = False
        if not isinstance(value, bytes):
            return _missed(what, "miss")
        CACHE_LOOKUPS.labels(what, "hit").inc()
        return value

    async def set(self, key: str, value: bytes, ttl_s: int) -> None:
        """Keep the value for at most `ttl_s` seconds; one of more than a mebibyte is not kept."""
        redis = self._connection()
        if redis is None or len(value) > MAX_VALUE_BYTES:
            return
        try:
            await redis.set(KEY_PREFIX + key, value, ex=ttl_s)
        except (RedisError, OSError, TimeoutError) as error:
            self._report(error)

    async def ping(self) -> bool:
        """Return whether the server answers."""
        redis = self._connection()
        try:
            return redis is not None and bool(await redis.ping())
        except (RedisError, OSError, TimeoutError):
            return False

    async def aclose(self) -> None:
        """Close every connection."""
        if self._redis is not None:
            await self._redis.aclose()

    def _connection(self) -> Redis | None:
        url = self._url()
        if url is not None and self._redis is None:
            self._redis = Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
        return self._redis

    def _report(self, error: Exception) -> None:
        if not self._failing:
            log.warning("the cache cannot be reached; going on without it", reason=str(error))
        self._failing = True


def _missed(what: str, outcome: str) -> bytes | None:
    CACHE_LOOKUPS.labels(what, outcome).inc()
    return None
