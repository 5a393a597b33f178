"""A balancer for the test: by turns over the replicas that are ready, and a second try only where that does no harm.

A request is sent again if it was not sent, if the replica refused it before it began, or if it changes nothing. Whatever else
breaks is the client's to send again: the balancer answers 502, or breaks off the stream as the replica did.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import aiohttp
from aiohttp import web

LOOK_EVERY_S = 0.2
LOOK_TIMEOUT_S = 2.0
# Of a server that is up: its answers may take long, its connections not.
CONNECT_TIMEOUT_S = 2.0
# While no replica is ready; about as long as one takes to start.
MAX_WAIT_S = 60.0
# What changes nothing, beside what HTTP says of methods.
READING_POST = re.compile(r"/v1/vector_stores/[^/]+/search")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
# Told before anything was done.
REFUSED_CODES = frozenset({"shutting_down", "overloaded"})
# What is between two parties and not handed on.
HOP_HEADERS = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive", "host"})
EVENT_STREAM = "text/event-stream"


class Balancer:
    """Hands requests on. `counts` says how many, how often again and why, and how many broke."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = list(addresses)
        self._ready: set[str] = set()
        self._turn = 0
        self.counts: Counter[str] = Counter()
        self._session: aiohttp.ClientSession

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Listen until the end of the context; give the address."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
        # A connection for each request: one that is used again may be closed at the moment in which a request is sent.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=False) as self._session:
            app = web.Application(client_max_size=64 * 1024**2)
            app.router.add_route("*", "/{path:.*}", self._handle)
            runner = web.AppRunner(app, shutdown_timeout=5.0)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            looking = [asyncio.create_task(self._look(address)) for address in self._addresses]
            try:
                yield f"http://127.0.0.1:{runner.addresses[0][1]}"
            finally:
                for task in looking:
                    task.cancel()
                await asyncio.gather(*looking, return_exceptions=True)
                await runner.cleanup()

    async def _look(self, address: str) -> None:
        while True:
            is_ready = False
            with suppress(aiohttp.ClientError, TimeoutError):
                async with asyncio.timeout(LOOK_TIMEOUT_S), self._session.get(f"{address}/ready") as response:
                    is_ready = response.status == 200
            (self._ready.add if is_ready else self._ready.discard)(address)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.counts["requests"] += 1
        body = await request.read()
        is_safe = request.method in SAFE_METHODS or READING_POST.fullmatch(request.path) is not None
        clock = asyncio.get_running_loop().time
        gives_up_at = clock() + MAX_WAIT_S
        while clock() < gives_up_at:
            address = await self._next()
            if address is None:
                continue
            try:
                async with self._sent(request, address, body) as response:
                    if response.headers.get("content-type", "").startswith(EVENT_STREAM):
                        return await self._streamed(request, response)
                    content = await response.read()
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                self._left_out(address, "not sent")
            except aiohttp.ClientError:
                if not is_safe:
                    break
                self._left_out(address, "changes nothing")
            else:
                if not _is_refused(response.status, content):
                    return web.Response(status=response.status, headers=_handed_on(response), body=content)
                self._left_out(address, "refused")
        self.counts["broken"] += 1
        return web.json_response({"error": {"message": "the server broke off", "code": "bad_gateway"}}, status=502)

    async def _next(self) -> str | None:
        """Return whose turn it is of those that are ready; None, after a moment, if none is."""
        ready = [address for address in self._addresses if address in self._ready]
        if not ready:
            await asyncio.sleep(LOOK_EVERY_S)
            return None
        self._turn += 1
        return ready[self._turn % len(ready)]

    def _left_out(self, address: str, why: str) -> None:
        self._ready.discard(address)
        self.counts[why] += 1

    def _sent(self, request: web.Request, address: str, body: bytes) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_HEADERS}
        return self._session.request(request.method, f"{address}{request.path_qs}", data=body, headers=headers)

    async def _streamed(self, request: web.Request, response: aiohttp.ClientResponse) -> web.StreamResponse:
        stream = web.StreamResponse(status=response.status, headers=_handed_on(response))
        await stream.prepare(request)
        try:
            async for part in response.content.iter_any():
                await stream.write(part)
        except aiohttp.ClientError:
            self.counts["broken"] += 1
            # Nobody takes it for the end.
            if request.transport is not None:
                request.transport.abort()
            return stream
        await stream.write_eof()
        return stream


def _handed_on(response: aiohttp.ClientResponse) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.lower() not in HOP_HEADERS}


def _is_refused(status: int, content: bytes) -> bool:
    if status != 503:
        return False
    try:
        return json.loads(content)["error"]["code"] in REFUSED_CODES
    except (ValueError, KeyError, TypeError):
        return False
