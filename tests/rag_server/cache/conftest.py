"""A Valkey of each test's own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rag_server.cache.valkey_process import ValkeyProcess


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[ValkeyProcess]:
    process = ValkeyProcess(tmp_path)
    process.start()
    async with asyncio.timeout(30):
        while process.url is None:
            await asyncio.sleep(0.01)
    yield process
    process.stop()
