"""A Valkey of each test's own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from rag_server.cache.valkey_process import ValkeyProcess


async def is_up(process: ValkeyProcess) -> bool:
    if process.url is None:
        return False
    redis = Redis.from_url(process.url)
    try:
        return bool(await redis.ping())
    except RedisError:
        return False
    finally:
        await redis.aclose()


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[ValkeyProcess]:
    process = ValkeyProcess(tmp_path)
    process.start()
    async with asyncio.timeout(30):
        # Its socket is there a moment before it takes connections.
        while not await is_up(process):
            await asyncio.sleep(0.01)
    yield process
    process.stop()
