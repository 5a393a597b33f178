"""Sends requests to engines: tried again while they may succeed, and every failure under its name.

Through aiohttp: httpx takes more time for an answer, and looks through all connections at each request.
"""

import asyncio
import io
import json
from collections.abc import AsyncGenerator
from urllib.parse import urlsplit

import aiohttp
import structlog

from rag_server.engines.engine_json import parsed
from rag_server.engines.refusals import refusal
from rag_server.errors import ConfigError, EngineProtocolError, EngineRequestError, EngineUnavailableError, RagServerError
from rag_server.protocols import Json

log = structlog.get_logger()

CONNECT_TIMEOUT_S = 5.0
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


class EngineHttpClient:
    """Connections to one engine, with its key."""

    def __init__(self, *, api_key: str | None, timeout_s: float) -> None:
        self._headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {api_key}"} if api_key else {})
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=timeout_s)
        self._opened: aiohttp.ClientSession | None = None

    async def aclose(self) -> None:
        """Close every connection."""
        if self._opened is not None:
            await self._opened.close()

    async def request(self, method: str, url: str, body: Json | None = None) -> Json:
        """Return the JSON object that the engine answers.

        Raises:
            EngineUnavailableError: It is unreachable, slow or overloaded, and further tries did not help.
            EngineRequestError: It refuses.
            EngineProtocolError: It answers something else.
            ConfigError: It wants another key.
        """
        response = await self._send(method, url, body, stream=False)
        answer = _json(await response.read())
        if not isinstance(answer, dict):
            log.error("the engine answered something that is no JSON object", url=_place(url))
            raise EngineProtocolError("the engine answered something that is no JSON object; the server's log says where")
        return answer

    async def stream(self, method: str, url: str, body: Json) -> AsyncGenerator[bytes, None]:
        """Yield the parts of a successful answer as they come; closing the generator ends the engine's work.

        Raises:
            EngineProtocolError: The answer broke off; and what `request` raises, before the first part.
        """
        response = await self._send(method, url, body, stream=True)
        try:
            async for part in response.content.iter_any():
                yield part
        except (aiohttp.ClientError, TimeoutError) as error:
            log.error("the engine's answer broke off", reason=_reason(error))
            raise EngineProtocolError("the engine's answer broke off") from error
        finally:
            # What was not read to its end is not used for another request.
            response.release()

    async def _send(self, method: str, url: str, body: Json | None, *, stream: bool) -> aiohttp.ClientResponse:
        """Return a successful response, tried again while the engine is unreachable or overloaded; without `stream`, read.

        Messages of errors are read by clients, so the engine's address and what it says of its own faults are in the log only.
        """
        content = b"" if body is None else json.dumps(body).encode()
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                response = await self._answered(method, url, content, stream=stream)
            except TimeoutError as error:
                log.error("the engine did not answer in time", url=_place(url), reason=_reason(error))
                raise EngineUnavailableError("the engine did not answer in time") from error
            except aiohttp.ClientError as error:
                if attempt == MAX_ATTEMPTS:
                    log.warning("the engine cannot be reached", url=_place(url), reason=_reason(error))
                failure = EngineUnavailableError("the engine cannot be reached; the server's log says where and why")
            else:
                if response.status < 400:
                    return response
                if response.status not in RETRIED_STATUSES:
                    raise _refused(response, await response.read())
                failure = EngineUnavailableError("the engine is overloaded", retry_after_s=_retry_after_s(response))
            if attempt < MAX_ATTEMPTS:
                await asyncio.sleep(FIRST_RETRY_DELAY_S * 2 ** (attempt - 1))
        raise failure

    async def _answered(self, method: str, url: str, content: bytes, *, stream: bool) -> aiohttp.ClientResponse:
        """Return the response, read but for a successful stream."""
        response = await self._session().request(method, url, data=io.BytesIO(content), allow_redirects=False)
        try:
            if not stream or response.status >= 400:
                await response.read()
        except BaseException:
            response.close()
            raise
        return response

    def _session(self) -> aiohttp.ClientSession:
        """Return the connections, which belong to the event loop that runs when they are first needed."""
        if self._opened is None:
            # The queues before it bound how many there are.
            connector = aiohttp.TCPConnector(limit=0)
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


def _place(url: str) -> str:
    """Return an address without the password that it may hold."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _refused(response: aiohttp.ClientResponse, content: bytes) -> RagServerError:
    status = response.status
    if 400 <= status < 500 and status != 401:
        retry_after_s = _retry_after_s(response) if status == TOO_MANY_REQUESTS else None
        return EngineRequestError(status, refusal(status, _json(content)), retry_after_s)
    answer = content.decode(errors="replace")[:500]
    log.error("the engine failed", url=_place(str(response.url)), status=status, answer=answer)
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
