"""The way to Redis or Valkey: made when it is first needed, and left alone for a while after an answer did not come."""

import asyncio
from collections.abc import Callable

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

log = structlog.get_logger()

# What may go wrong on the way.
FAILURES = (RedisError, OSError, TimeoutError)
# A server that hangs would cost every request the whole timeout.
REST_S = 5.0


class Connection:
    """A server that may be missing, down or slow; one line in the log says so, until it answers again."""

    def __init__(self, url: Callable[[], str | None], *, complaint: str) -> None:
        """Take the address when it is needed: None means that the server is not up (yet). `complaint` goes to the log."""
        self._url = url
        self._complaint = complaint
        self._redis: Redis | None = None
        self._rests_until = 0.0
        self._failing = self._is_closed = False

    def client(self, timeout_s: float) -> Redis | None:
        """Return the client, None while there is nobody to ask, and once it is closed."""
        if self._is_closed:
            return None
        url = self._url()
        if url is not None and self._redis is None:
            self._redis = Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
        return None if asyncio.get_running_loop().time() < self._rests_until else self._redis

    def worked(self) -> None:
        """Note that the server has answered."""
        self._failing = False

    def failed(self, error: Exception | None = None) -> None:
        """Note that it has not: because of that error, or since there was no client."""
        if isinstance(error, RedisTimeoutError | TimeoutError):
            self._rests_until = asyncio.get_running_loop().time() + REST_S
        if not self._failing:
            reason = "the server is not up" if error is None else str(error) or type(error).__name__
            log.warning(self._complaint, reason=reason)
        self._failing = True

    async def aclose(self) -> None:
        """Close every connection; none is made any more."""
        self._is_closed = True
        if self._redis is not None:
            try:
                await self._redis.aclose()
            except FAILURES as error:
                # Its end is not waited for longer: there is more to be ended after it.
                log.warning("a connection of the cache was cut", reason=str(error) or type(error).__name__)
