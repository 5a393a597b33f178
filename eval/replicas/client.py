"""A client that sends a request again when it broke or the server could not take it, and counts what it did."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from rag_server.protocols import Json

# As OpenAI's clients do, which also send again what was answered with these.
SENT_AGAIN = frozenset({502, 503, 504})
PAUSE_S = 0.2
GIVE_UP_S = 120.0
DONE = "data: [DONE]"
Found = Callable[[], Awaitable[Json | None]]
Answer = TypeVar("Answer")


class BrokenError(Exception):
    """A request has no answer."""


@dataclass
class Tally:
    """Requests, by their kinds: how many there were, how often they were sent again, and how many were given up."""

    made: Counter[str] = field(default_factory=Counter)
    again: Counter[str] = field(default_factory=Counter)
    given_up: Counter[str] = field(default_factory=Counter)


class Client:
    """Sends requests of several kinds to one address."""

    def __init__(self, http: httpx.AsyncClient, tally: Tally) -> None:
        self._http = http
        self._tally = tally

    async def call(self, kind: str, method: str, path: str, *, found: Found | None = None, **request: Any) -> Json:
        """Return the JSON object that is answered.

        A request that makes something looks whether it is there already before it is sent again: `found` returns it then.

        Raises:
            BrokenError: It was given up, or answered with what no other try changes.
        """
        is_first = True

        async def send() -> Json:
            nonlocal is_first
            if not is_first and found is not None and (there := await found()) is not None:
                return there
            is_first = False
            response = await self._http.request(method, path, **request)
            _check(response)
            answer: Json = response.json()
            return answer

        return await self._until_answered(kind, send)

    async def lines(self, kind: str, path: str) -> list[Json]:
        """Return the rows of a JSON lines file; raise as `call` does."""

        async def send() -> list[Json]:
            response = await self._http.get(path)
            _check(response)
            return [json.loads(line) for line in response.text.splitlines()]

        return await self._until_answered(kind, send)

    async def stream(self, kind: str, path: str, body: Json) -> list[Json]:
        """Return the events of a stream that has come to its end.

        Raises:
            BrokenError: As with `call`.
        """

        async def send() -> list[Json]:
            async with self._http.stream("POST", path, json=body) as response:
                if response.status_code != 200:
                    await response.aread()
                _check(response)
                lines = [line async for line in response.aiter_lines() if line]
            if not lines or lines[-1] != DONE:
                raise httpx.RemoteProtocolError("the stream has no end")
            return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]

        return await self._until_answered(kind, send)

    async def _until_answered(self, kind: str, send: Callable[[], Awaitable[Answer]]) -> Answer:
        self._tally.made[kind] += 1
        try:
            async with asyncio.timeout(GIVE_UP_S):
                while True:
                    try:
                        return await send()
                    except httpx.TransportError:
                        self._tally.again[kind] += 1
                    await asyncio.sleep(PAUSE_S)
        except TimeoutError:
            self._tally.given_up[kind] += 1
            raise BrokenError(f"{kind}: no answer") from None


def _check(response: httpx.Response) -> None:
    if response.status_code in SENT_AGAIN:
        raise httpx.RemoteProtocolError(f"status {response.status_code}")
    if not response.is_success:
        raise BrokenError(f"status {response.status_code}: {response.text[:500]}")
