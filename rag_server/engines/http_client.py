"""Sends requests to engines: tried again while they may succeed, and every failure under its name."""

import asyncio

import httpx
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
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        timeout = httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        # trust_env off: a proxy of the environment is not for a loopback engine, and the key is not for the proxy.
        self._http = httpx.AsyncClient(headers=headers, timeout=timeout, limits=limits, trust_env=False)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def request(self, method: str, url: str, body: Json | None = None) -> Json:
        """Return the JSON object that the engine answers.

        Raises:
            EngineUnavailableError: It is unreachable, slow or overloaded, and further tries did not help.
            EngineRequestError: It refuses.
            EngineProtocolError: It answers something else.
            ConfigError: It wants another key.
        """
        response = await self.send(method, url, body, stream=False)
        answer = _json(response)
        if not isinstance(answer, dict):
            log.error("the engine answered something that is no JSON object", url=_place(url))
            raise EngineProtocolError("the engine answered something that is no JSON object; the server's log says where")
        return answer

    async def send(self, method: str, url: str, body: Json | None, *, stream: bool) -> httpx.Response:
        """Return a successful response, tried again while the engine is unreachable or overloaded.

        Messages of errors are read by clients, so the engine's address and what it says of its own faults are in the log only.

        Raises:
            EngineUnavailableError: Further tries did not help.
            EngineRequestError: The engine refuses.
            ConfigError: The engine wants another key.
        """
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                response = await self._http.send(self._http.build_request(method, url, json=body), stream=stream)
                if response.status_code >= 400:
                    await response.aread()
                    await response.aclose()
            except httpx.TimeoutException as error:
                log.error("the engine did not answer in time", url=_place(url), reason=reason(error))
                raise EngineUnavailableError("the engine did not answer in time") from error
            except httpx.HTTPError as error:
                if attempt == MAX_ATTEMPTS:
                    log.warning("the engine cannot be reached", url=_place(url), reason=reason(error))
                failure = EngineUnavailableError("the engine cannot be reached; the server's log says where and why")
            else:
                if response.status_code < 400:
                    return response
                if response.status_code not in RETRIED_STATUSES:
                    raise _refused(response)
                failure = EngineUnavailableError("the engine is overloaded", retry_after_s=_retry_after_s(response))
            if attempt < MAX_ATTEMPTS:
                await asyncio.sleep(FIRST_RETRY_DELAY_S * 2 ** (attempt - 1))
        raise failure


def reason(error: Exception) -> str:
    """Return the error in words, also where it has none."""
    return str(error) or type(error).__name__


def _place(url: str | httpx.URL) -> str:
    """Return an address without the password that it may hold."""
    address = httpx.URL(url)
    return f"{address.scheme}://{address.netloc.decode()}{address.path}"


def _refused(response: httpx.Response) -> RagServerError:
    status = response.status_code
    if 400 <= status < 500 and status != 401:
        retry_after_s = _retry_after_s(response) if status == TOO_MANY_REQUESTS else None
        return EngineRequestError(status, refusal(status, _json(response)), retry_after_s)
    log.error("the engine failed", url=_place(response.url), status=status, answer=response.text[:500])
    if status == 401:
        return ConfigError("RAG_ENGINE__API_KEY: the engine refuses this key; set the one that it wants")
    return EngineRequestError(status, _FAILED)


def _json(response: httpx.Response) -> object:
    try:
        return parsed(response.content.decode())
    except ValueError:
        return None


def _retry_after_s(response: httpx.Response) -> int:
    value = response.headers.get("retry-after", "")
    return int(value) if value.isdigit() else 5
