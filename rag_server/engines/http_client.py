"""Sends requests to engines: tried again while they may succeed, at another replica first, and every failure under its name.

Through aiohttp: httpx takes more time for an answer, and looks through all connections at each request.
"""

import asyncio
import io
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp
import structlog

from rag_server.coalescing import all_of
from rag_server.engines.addresses import url_at, without_password
from rag_server.engines.engine_json import parsed
from rag_server.engines.refusals import refusal
from rag_server.engines.replicas import Replica, Replicas
from rag_server.errors import ConfigError, EngineProtocolError, EngineRequestError, EngineUnavailableError, RagServerError
from rag_server.protocols import Json

log = structlog.get_logger()

CONNECT_TIMEOUT_S = 5.0
# Connections are not used again after a time; uvicorn, and so vLLM, closes them after five seconds.
KEPT_IDLE_S = 4.0
MAX_ATTEMPTS = 3
FIRST_RETRY_DELAY_S = 0.2
# Answers of an engine, or of the balancer before it, that another try may change.
RETRIED_STATUSES = {502, 503, 504}
TOO_MANY_REQUESTS = 429
_FAILED = {
    "error": {
        "message": "the engine failed; the server's log says how",
        "type": "server_error",
        "param": None,
        "code": "engine_failed",
    }
}


@dataclass(frozen=True, slots=True)
class _Request:
    """What is sent. The answer of a `stream` is read in parts."""

    method: str
    path: str
    body: Json | None
    stream: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    """A successful answer, read, or of a stream the `first` part; the replica has the request until `asked` is closed."""

    response: aiohttp.ClientResponse
    first: bytes
    asked: ExitStack


class EngineHttpClient:
    """Connections to the replicas of an engine, with its key."""

    def __init__(self, replicas: Replicas, *, api_key: str | None, timeout_s: float) -> None:
        self._replicas = replicas
        self._headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {api_key}"} if api_key else {})
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=timeout_s)
        self._opened: aiohttp.ClientSession | None = None

    async def aclose(self) -> None:
        """Close every connection."""
        await self._replicas.aclose()
        if self._opened is not None:
            await self._opened.close()

    async def request(self, method: str, path: str, body: Json | None = None) -> Json:
        """Return the JSON object that the engine answers.

        Raises:
            EngineUnavailableError: It is unreachable, slow or overloaded, and further tries did not help.
            EngineRequestError: It refuses.
            EngineProtocolError: It answers something else.
            ConfigError: It wants another key.
        """
        async with self._answer(_Request(method, path, body)) as answer:
            content = _json(await answer.response.read())
            if not isinstance(content, dict):
                url = without_password(str(answer.response.url))
                log.error("the engine answered something that is no JSON object", url=url)
                raise EngineProtocolError("the engine answered something that is no JSON object; the server's log says where")
            return content

    async def stream(self, method: str, path: str, body: Json) -> AsyncGenerator[bytes, None]:
        """Yield the parts of a successful answer as they come; closing the generator ends the engine's work.

        Raises:
            EngineProtocolError: The answer broke off; and what `request` raises, before the first part.
        """
        async with self._answer(_Request(method, path, body, stream=True)) as answer:
            try:
                if answer.first:
                    yield answer.first
                async for part in answer.response.content.iter_any():
                    yield part
            except (aiohttp.ClientError, TimeoutError) as error:
                log.error("the engine's answer broke off", reason=_reason(error))
                raise EngineProtocolError("the engine's answer broke off") from error

    async def faults(self, path: str, timeout_s: float) -> list[str | None]:
        """Return, of each replica in the order of the setting, why it does not answer a GET within that time, None if it does.

        Raises:
            EngineUnavailableError: The engine is a child of this server and has no address now.
        """
        request = _Request("GET", path, None)
        return await all_of(self._fault(replica, request, timeout_s) for replica in self._replicas.all())

    async def _fault(self, replica: Replica, request: _Request, timeout_s: float) -> str | None:
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._ask(replica, request, b"")
        except TimeoutError:
            replica.failed("unreachable", f"no answer within {timeout_s:g} seconds")
            return f"the engine did not answer within {timeout_s:g} seconds"
        except RagServerError as error:
            return str(error)
        if isinstance(answer, EngineUnavailableError):
            return str(answer)
        answer.asked.close()
        return None

    @asynccontextmanager
    async def _answer(self, request: _Request) -> AsyncIterator[_Answer]:
        answer = await self._send(request)
        try:
            yield answer
        finally:
            # What was not read to its end is not used for another request.
            answer.response.release()
            answer.asked.close()

    async def _send(self, request: _Request) -> _Answer:
        """Return a successful answer: of another replica at once, or where there is none of the same one after a moment."""
        content = b"" if request.body is None else json.dumps(request.body).encode()
        began_at, tried = time.monotonic(), list[Replica]()
        for attempt in range(MAX_ATTEMPTS):
            replica = self._replicas.next(request.body, tried)
            if replica in tried:
                # Nobody waits for a connection again and again.
                if time.monotonic() - began_at > CONNECT_TIMEOUT_S:
                    break
                await asyncio.sleep(FIRST_RETRY_DELAY_S * 2 ** (attempt - 1))
                replica = self._replicas.next(request.body, tried)
            answer = await self._ask(replica, request, content)
            if isinstance(answer, _Answer):
                return answer
            failure = answer
            tried.append(replica)
        raise failure

    async def _ask(self, replica: Replica, request: _Request, content: bytes) -> _Answer | EngineUnavailableError:
        """Return the answer of a replica, or why it cannot serve the request now; nothing was handed on then.

        Messages of errors are read by clients, so the engine's address and what it says of its own faults are in the log only.
        """
        url = url_at(replica.address, request.path)
        with ExitStack() as stack:
            stack.enter_context(replica.asked())
            try:
                response, first = await self._answered(request, url, content)
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
                replica.failed("unreachable", _reason(error))
                return EngineUnavailableError("the engine cannot be reached; the server's log says where and why")
            except TimeoutError as error:
                replica.failed("unreachable", _reason(error))
                raise EngineUnavailableError("the engine did not answer in time") from error
            except aiohttp.ClientError as error:
                replica.broke_off()
                log.info("an engine broke off before it answered", url=without_password(url), reason=_reason(error))
                return EngineUnavailableError("the engine broke off before it answered; the server's log says why")
            if response.status in RETRIED_STATUSES:
                replica.failed("overloaded", f"status {response.status}")
                return EngineUnavailableError("the engine is overloaded", retry_after_s=_retry_after_s(response))
            replica.answered()
            if response.status >= 400:
                raise _refused(response, await response.read())
            return _Answer(response, first, stack.pop_all())

    async def _answered(self, request: _Request, url: str, content: bytes) -> tuple[aiohttp.ClientResponse, bytes]:
        """Return the response, read but for a successful stream, and of that the first part."""
        response = await self._session().request(request.method, url, data=io.BytesIO(content), allow_redirects=False)
        try:
            if request.stream and response.status < 400:
                return response, await response.content.readany()
            await response.read()
        except BaseException:
            response.close()
            raise
        return response, b""

    def _session(self) -> aiohttp.ClientSession:
        """Return the connections, which belong to the event loop that runs when they are first needed."""
        if self._opened is None:
            # The queues before it bound how many there are.
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_IDLE_S)
            # Without the environment: a proxy there is not for a loopback engine, and the key is not for the proxy.
            self._opened = aiohttp.ClientSession(
                connector=connector,
                headers=self._headers,
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._opened


def _reason(error: Exception) -> str:
    """Return the error in words, also where it has none."""
    return str(error) or type(error).__name__


def _refused(response: aiohttp.ClientResponse, content: bytes) -> RagServerError:
    status = response.status
    if 400 <= status < 500 and status != 401:
        retry_after_s = _retry_after_s(response) if status == TOO_MANY_REQUESTS else None
        return EngineRequestError(status, refusal(status, _json(content)), retry_after_s)
    answer = content.decode(errors="replace")[:500]
    log.error("the engine failed", url=without_password(str(response.url)), status=status, answer=answer)
    if status == 401:
        return ConfigError("RAG_ENGINE__API_KEY: the engine refuses this key; set the one that it wants")
    return EngineRequestError(status, _FAILED)


def _json(content: bytes) -> object:
    try:
        return parsed(content.decode())
    except ValueError:
        return None


def _retry_after_s(response: aiohttp.ClientResponse) -> int:
    value = response.headers.get("retry-after", "")
    return int(value) if value.isdigit() else 5
