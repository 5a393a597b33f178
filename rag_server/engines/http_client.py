"""Sends requests to engines: tried again while they may succeed, and every failure under its name."""

import asyncio

import httpx

from rag_server.errors import EngineProtocolError, EngineRequestError, EngineUnavailableError
from rag_server.protocols import Json

CONNECT_TIMEOUT_S = 5.0
MAX_ATTEMPTS = 3
FIRST_RETRY_DELAY_S = 0.2
# Answers of an engine, or of the balancer before it, that another try may change.
RETRIED_STATUSES = {502, 503, 504}


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
        """
        response = await self.send(method, url, body, stream=False)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise EngineProtocolError(f"the engine answered {url} with something that is no JSON object")
        return answer

    async def send(self, method: str, url: str, body: Json | None, *, stream: bool) -> httpx.Response:
        """Return a successful response, tried again while the engine is unreachable or overloaded.

        Raises:
            EngineUnavailableError: Further tries did not help.
            EngineRequestError: The engine refuses.
        """
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                response = await self._http.send(self._http.build_request(method, url, json=body), stream=stream)
            except httpx.ConnectError as error:
                failure = EngineUnavailableError(f"the engine cannot be reached at {url}: {reason(error)}")
            except httpx.TimeoutException as error:
                raise EngineUnavailableError(f"the engine did not answer in time: {reason(error)}") from error
            except httpx.HTTPError as error:
                failure = EngineUnavailableError(f"the engine closed the connection: {reason(error)}")
            else:
                if response.status_code < 400:
                    return response
                await response.aread()
                await response.aclose()
                if response.status_code not in RETRIED_STATUSES:
                    raise EngineRequestError(response.status_code, _body(response))
                failure = EngineUnavailableError("the engine is overloaded", retry_after_s=_retry_after_s(response))
            if attempt < MAX_ATTEMPTS:
                await asyncio.sleep(FIRST_RETRY_DELAY_S * 2 ** (attempt - 1))
        raise failure


def reason(error: Exception) -> str:
    """Return the error in words, also where it has none."""
    return str(error) or type(error).__name__


def _body(response: httpx.Response) -> object:
    try:
        return response.json()
    except ValueError:
        return {"error": {"message": response.text[:500], "type": "engine_error", "param": None, "code": None}}


def _retry_after_s(response: httpx.Response) -> int:
    value = response.headers.get("retry-after", "")
    return int(value) if value.isdigit() else 5
