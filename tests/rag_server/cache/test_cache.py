"""The cache on a real Valkey: values, loss, and the end of the server."""

from rag_server.cache.keys import cache_key
from rag_server.cache.redis_cache import MAX_VALUE_BYTES, RedisCache
from rag_server.cache.valkey_process import ValkeyProcess


async def test_value_is_kept_until_its_time(valkey: ValkeyProcess) -> None:
    """A value comes back as it was set, under a prefix, and with a time to live."""
    cache = RedisCache(lambda: valkey.url)
    await cache.set("a", b"\x00value", ttl_s=60)

    assert await cache.get("a") == b"\x00value"
    assert await cache.get("b") is None
    assert await cache._redis.keys() == [b"rag:a"]
    assert 0 < await cache._redis.ttl("rag:a") <= 60
    assert await cache.ping()
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
