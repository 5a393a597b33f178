"""A Valkey of each test's own, and one that takes connections and says nothing."""

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


class HangingServer:
    """Reads what it is sent, and counts who connects."""

    def __init__(self) -> None:
        self.num_connections = 0
        self.url = ""

    async def hang(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        while await reader.read(1024):
            continue
        writer.close()


@pytest.fixture
async def hanging() -> AsyncIterator[HangingServer]:
    hanging = HangingServer()
    server = await asyncio.start_server(hanging.hang, "127.0.0.1", 0)
    hanging.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield hanging
    server.close()
