"""Fetches a document by its URL, from public addresses only.

The address that is checked is the one that is connected to: a name is resolved once per connection, so that neither a second
answer of its name server nor a redirect leads elsewhere. Proxies are not used, since they would resolve names themselves.
"""

import asyncio
import ipaddress
import re
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO
from urllib.parse import unquote

import httpcore
import httpx
import structlog

from rag_server.errors import FetchError

log = structlog.get_logger()

# Returns the addresses of a host.
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

MAX_URL_CHARACTERS = 8192
MAX_REDIRECTS = 5
MAX_NAME_CHARACTERS = 200
UNNAMEABLE = re.compile(r"[\x00-\x1f\x7f/\\]")
REDIRECTS = frozenset({301, 302, 303, 307, 308})
SCHEMES = ("http", "https")
CONNECT_TIMEOUT_S = 10.0
# Nothing is unpacked, so that nothing can grow.
HEADERS = (("user-agent", "rag-server"), ("accept", "*/*"), ("accept-encoding", "identity"))
PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")
# Public for the standard library, in all of its versions or in some: protocol assignments (with Oracle's metadata at
# 192.0.0.192), relays of 6to4, Azure's metadata.
CLOSED_IPV4 = tuple(map(ipaddress.IPv4Network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32")))
# Likewise: protocol assignments, 6to4, documentation.
CLOSED_IPV6 = tuple(map(ipaddress.IPv6Network, ("2001::/23", "2002::/16", "3fff::/20")))
# Of networks without IPv4, which translate its addresses (RFC 6052).
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# A lookup cannot be broken off, and the event loop has few threads for those of the whole process.
_LOOKUPS = ThreadPoolExecutor(max_workers=8, thread_name_prefix="lookups")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A document: the name that its URL gives it, its bytes from the beginning, and how many there are."""

    filename: str
    file: BinaryIO
    num_bytes: int


async def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host as the system knows them."""
    lookup = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_LOOKUPS, lookup)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def fetch(
    url: str,
    *,
    max_bytes: int,
    timeout_s: float,
    resolve: Resolve = resolve,
    network: httpcore.AsyncNetworkBackend | None = None,
) -> Fetched:
    """Return the document at a URL.

    Raises:
        FetchError: The URL or a redirect is none that is fetched, what it leads to is too large, too slow or no document.
    """
    backend = _PublicNetwork(resolve, network or httpcore.AnyIOBackend())
    try:
        async with asyncio.timeout(timeout_s), httpcore.AsyncConnectionPool(network_backend=backend) as pool:
            return await _follow(pool, url, max_bytes)
    except TimeoutError:
        raise FetchError(f"the document did not come within {timeout_s:g} seconds") from None
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
        # What stands behind a public name is nobody's business either.
        log.info("a URL was not fetched", reason=str(error))
        raise FetchError("the server of the URL cannot be reached, or does not speak HTTP") from None


def is_public(address: str) -> bool:
    """Return whether an address is one of the internet's, and not of this machine, its networks, or a way around to them."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return ip.is_global and not ip.is_multicast and not any(ip in network for network in CLOSED_IPV4)
    if ip.ipv4_mapped is not None:
        return is_public(str(ip.ipv4_mapped))
    if ip in NAT64:
        return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
    return ip.is_global and ip in PUBLIC_IPV6 and not any(ip in network for network in CLOSED_IPV6)


class _PublicNetwork(httpcore.AsyncNetworkBackend):
    """Resolves a host, checks every address of it, and connects to one of those."""

    def __init__(self, resolve: Resolve, network: httpcore.AsyncNetworkBackend) -> None:
        self._resolve = resolve
        self._network = network

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface's
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the host.

        Raises:
            FetchError: It has no address, or one that is not public.
        """
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError):
            addresses = []
        # The same words for a name that only an inner name server knows and for one that nobody knows.
        if not addresses or not all(map(is_public, addresses)):
            raise FetchError(f"{host} has no public address; documents are fetched from the internet only")
        for address in addresses[:-1]:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._network.connect_tcp(addresses[-1], port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        """Wait between attempts."""
        await self._network.sleep(seconds)


async def _follow(pool: httpcore.AsyncConnectionPool, url: str, max_bytes: int) -> Fetched:
    target = _checked(url)
    extensions = {"timeout": {"connect": CONNECT_TIMEOUT_S}}
    for _ in range(MAX_REDIRECTS + 1):
        request = httpcore.URL(scheme=target.raw_scheme, host=target.raw_host, port=target.port, target=target.raw_path)
        async with pool.stream("GET", request, headers=HEADERS, extensions=extensions) as response:
            headers = httpx.Headers(response.headers)
            if response.status in REDIRECTS and "location" in headers:
                target = _next(target, headers["location"])
                continue
            if response.status != 200:
                raise FetchError(f"the server of the URL answered with status {response.status}")
            if headers.get("content-encoding", "identity") != "identity":
                raise FetchError("the document comes compressed, though it was asked for as it is")
            return await _save(response.aiter_stream(), _filename(target, headers), max_bytes)
    raise FetchError(f"the URL leads on more than {MAX_REDIRECTS} times")


async def _save(parts: AsyncIterator[bytes], filename: str, max_bytes: int) -> Fetched:
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller reads it
    try:
        async for part in parts:
            file.write(part)
            if file.tell() > max_bytes:
                raise FetchError(f"the document has more than {max_bytes:,} bytes")
    except BaseException:
        file.close()
        raise
    num_bytes = file.tell()
    file.seek(0)
    return Fetched(filename, file, num_bytes)


def _checked(url: str) -> httpx.URL:
    """Return a URL that may be fetched, as far as its text says."""
    if len(url) > MAX_URL_CHARACTERS:
        raise FetchError(f"a URL may have {MAX_URL_CHARACTERS:,} characters")
    try:
        return _permitted(httpx.URL(url))
    except (httpx.InvalidURL, UnicodeError) as error:
        raise FetchError(f"that is no URL: {error}") from None


def _next(target: httpx.URL, location: str) -> httpx.URL:
    try:
        led = _permitted(target.join(location))
    except (httpx.InvalidURL, UnicodeError):
        raise FetchError("the URL leads on to what is no URL") from None
    if target.scheme == "https" and led.scheme == "http":
        raise FetchError("the URL leads on from https to http, which is not followed")
    return led


def _permitted(url: httpx.URL) -> httpx.URL:
    """Return the URL.

    Raises:
        FetchError: It is none that may be fetched.
        UnicodeError: Its host is no name.
    """
    if url.scheme not in SCHEMES or not url.host:
        raise FetchError("a URL begins with https:// or http:// and a host")
    if url.port is not None and not 0 < url.port < 65536:
        raise FetchError("that is no URL: there is no such port")
    if url.userinfo:
        raise FetchError("a URL may hold no name or password")
    return url


def _filename(url: httpx.URL, headers: httpx.Headers) -> str:
    """Return the last part of the path, as a name of a file; of a page without one, its host."""
    last = unquote(url.raw_path.decode("ascii").partition("?")[0].rstrip("/").rpartition("/")[2])
    # From the end, where the suffix is.
    name = UNNAMEABLE.sub("_", last)[-MAX_NAME_CHARACTERS:] or url.host
    is_page = headers.get("content-type", "").startswith("text/html")
    return f"{name}.html" if is_page and not name.endswith((".html", ".htm")) else name
