"""A small HTTP client for load: what it costs itself is little beside what it measures."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from rag_server.protocols import Json


@dataclass(frozen=True, slots=True)
class Answer:
    """The status of an answer, and the seconds from sending the request to its first byte and to its last."""

    status: int
    first_s: float
    total_s: float


class Target:
    """A server, by its address, and the connections to it that are free."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, path: str, body: Json) -> Answer:
        """Send a request over a free connection, or a new one, and read the whole answer."""
        reader, writer = self._free.pop() if self._free else await asyncio.open_connection(self._host, self._port)
        started = time.perf_counter()
        writer.write(self._request(path, body))
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            first_s = time.perf_counter() - started
            await _read_body(reader, head)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            return Answer(0, 0.0, time.perf_counter() - started)
        answer = Answer(int(head.split(b" ", 2)[1]), first_s, time.perf_counter() - started)
        if b"connection: close" in head.lower():
            writer.close()
        else:
            self._free.append((reader, writer))
        return answer

    @asynccontextmanager
    async def sent(self, path: str, body: Json) -> AsyncIterator[asyncio.StreamReader]:
        """Send a request and give what reads its answer; at the end of the context the client is gone."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        writer.write(self._request(path, body))
        try:
            yield reader
        finally:
            writer.transport.abort()

    def close(self) -> None:
        """Close the connections."""
        for _, writer in self._free:
            writer.close()

    def _request(self, path: str, body: Json) -> bytes:
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


async def closed_loop(target: Target, path: str, body: Json, *, clients: int, seconds: float) -> list[Answer]:
    """Have so many clients ask one after the other, each as soon as it was answered."""
    ends_at = time.perf_counter() + seconds
    answers: list[Answer] = []

    async def client() -> None:
        while time.perf_counter() < ends_at:
            answers.append(await target.post(path, body))

    await asyncio.gather(*(client() for _ in range(clients)))
    return answers


async def open_loop(target: Target, path: str, body: Json, *, per_second: float, seconds: float) -> list[Answer]:
    """Send requests at random moments (a Poisson process), whether or not the earlier ones were answered."""
    chooser = random.Random(7)
    tasks: list[asyncio.Task[Answer]] = []
    began = due = time.perf_counter()
    while due < began + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(target.post(path, body)))
        due += chooser.expovariate(per_second)
    return await asyncio.gather(*tasks)


async def _read_body(reader: asyncio.StreamReader, head: bytes) -> None:
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        while (size := int(await reader.readline(), 16)) > 0:
            await reader.readexactly(size + 2)
        await reader.readline()
    elif (start := lower.find(b"content-length:")) >= 0:
        await reader.readexactly(int(lower[start + 15 :].split(b"\r\n", 1)[0]))
