"""The cache on a real Valkey: values, loss, and the end of the server."""

import asyncio
import os
import signal

import pytest
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import TimeoutError as RedisTimeoutError

from rag_server.cache import connection, redis_cache, valkey_process
from rag_server.cache.keys import cache_key
from rag_server.cache.redis_cache import MAX_VALUE_BYTES, RedisCache
from rag_server.cache.valkey_process import ValkeyProcess
from rag_server.observability import CACHE_LOOKUPS
from tests.rag_server.cache.conftest import HangingServer


async def test_value_is_kept_until_its_time(valkey: ValkeyProcess) -> None:
    """A value comes back as it was set, under a prefix, and with a time to live."""
    cache = RedisCache(lambda: valkey.url)
    await cache.set("a", b"\x00value", ttl_s=60)

    assert await cache.get("a") == b"\x00value"
    assert await cache.get("b") is None
    redis = Redis.from_url(valkey.url)
    assert await redis.keys() == [b"rag:a"]
    assert 0 < await redis.ttl("rag:a") <= 60
    assert await cache.ping()
    await redis.aclose()
    await cache.aclose()


async def test_large_value_is_not_kept(valkey: ValkeyProcess) -> None:
    """One value cannot push out all others."""
    cache = RedisCache(lambda: valkey.url)
    await cache.set("large", b"x" * (MAX_VALUE_BYTES + 1), ttl_s=60)
    await cache.set("largest", b"x" * MAX_VALUE_BYTES, ttl_s=60)

    assert await cache.get("large") is None
    assert await cache.get("largest") is not None
    await cache.aclose()


async def test_loss_of_the_server_is_a_miss(valkey: ValkeyProcess) -> None:
    """When the server goes away in between, reading misses, writing does nothing, and nobody is bothered."""
    address = valkey.url
    cache = RedisCache(lambda: address)
    await cache.set("a", b"1", ttl_s=60)
    valkey.stop()
    await cache.set("a", b"2", ttl_s=60)

    assert await cache.get("a") is None
    assert not await cache.ping()
    assert valkey.url is None
    await cache.aclose()


async def test_server_that_is_killed_comes_back(valkey: ValkeyProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is started again at the same address, as often as it is killed, until it is stopped."""
    monkeypatch.setattr(valkey_process, "POLL_S", 0.01)
    monkeypatch.setattr(valkey_process, "FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(redis_cache, "TIMEOUT_S", 10.0)
    cache = RedisCache(lambda: valkey.url)
    supervision = asyncio.ensure_future(valkey.supervise())
    redis = Redis.from_url(valkey.url)
    killed = set()
    for _ in range(2):
        pid = (await redis.info("server"))["process_id"]
        killed.add(pid)
        await cache.set("a", b"1", ttl_s=60)
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            while valkey.url is None or not await cache.ping() or (await redis.info("server"))["process_id"] in killed:
                await asyncio.sleep(0.01)
        assert await cache.get("a") is None
    await redis.aclose()
    await cache.aclose()
    valkey.stop()
    async with asyncio.timeout(30):
        await supervision

    assert len(killed) == 2
    assert valkey.url is None


@pytest.mark.parametrize("rests", [True, False])
async def test_server_that_hangs_is_left_alone_for_a_while(
    monkeypatch: pytest.MonkeyPatch, hanging: HangingServer, rests: bool
) -> None:
    """After an answer that did not come the next reads miss without asking, and are counted; then it is asked again."""
    monkeypatch.setattr(redis_cache, "TIMEOUT_S", 0.05)
    monkeypatch.setattr(connection, "REST_S", 600.0 if rests else 0.0)
    cache = RedisCache(lambda: hanging.url)
    before = CACHE_LOOKUPS.labels("a", "unavailable")._value.get()
    await cache.get("a:1")
    asked_once = hanging.num_connections
    for number in range(3):
        await cache.get(f"a:{number}")
        await cache.set("a:1", b"1", ttl_s=60)
    await cache.aclose()

    assert asked_once > 0
    assert (hanging.num_connections == asked_once) == rests
    assert CACHE_LOOKUPS.labels("a", "unavailable")._value.get() == before + 4


async def test_a_closed_cache_misses(valkey: ValkeyProcess) -> None:
    """A request that ends later than the cache opens no connection, which nobody would close."""
    cache = RedisCache(lambda: valkey.url)
    await cache.set("answer:a", b"value", ttl_s=60)
    await cache.aclose()

    await cache.set("answer:a", b"other", ttl_s=60)
    assert await cache.get("answer:a") is None
    again = RedisCache(lambda: valkey.url)
    assert await again.get("answer:a") == b"value"
    await again.aclose()


async def test_a_connection_that_does_not_end_in_time_stops_nobody(
    valkey: ValkeyProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing returns: whoever ends a server has more to end."""

    async def late(self: AbstractConnection, **_: object) -> None:
        raise RedisTimeoutError("Timed out closing connection")

    cache = RedisCache(lambda: valkey.url)
    await cache.set("a", b"value", ttl_s=60)
    with monkeypatch.context() as patched:
        patched.setattr(AbstractConnection, "disconnect", late)
        await cache.aclose()

    await cache.aclose()


async def test_cache_before_its_server_is_up_misses() -> None:
    """Without an address there is nothing to ask."""
    cache = RedisCache(lambda: None)
    await cache.set("a", b"1", ttl_s=60)

    assert await cache.get("a") is None
    await cache.aclose()


def test_key_depends_on_every_part_and_not_on_their_order() -> None:
    """Two keys are equal only if kind and all parts are; 1, "1" and [1] differ."""
    keys = {cache_key("hits", query=query, k=k) for query in ("a", "b", "\ud800") for k in (1, "1", [1], None)}

    assert len(keys) == 12
    assert cache_key("x", a=1, b=2) == cache_key("x", b=2, a=1)
    assert cache_key("x", a=1) != cache_key("y", a=1)
