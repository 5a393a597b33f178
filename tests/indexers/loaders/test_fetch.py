"""Documents by their URL: what is fetched from where, checked where the connection is made.

Names and addresses are made up, and every public one leads to one real HTTP server on loopback, which keeps what it was asked.
"""

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpcore
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from indexers.loaders.fetch import Fetched, fetch, is_public, resolve
from rag_server.errors import FetchError
from tests.conftest import served

PUBLIC = "93.184.216.34"
NAMES = {
    "docs.example": [PUBLIC],
    "two.example": ["2606:2800:220:1::1", PUBLIC],
    "inner.example": ["10.0.0.5"],
    "mixed.example": [PUBLIC, "127.0.0.1"],
}


async def known(host: str, port: int) -> list[str]:
    """The made-up name server; addresses are their own names."""
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        if host not in NAMES:
            raise socket.gaierror(f"no such host: {host}") from None
        return NAMES[host]


class ToTheServer(httpcore.AsyncNetworkBackend):
    """Connects to the server of the test whatever the address, and keeps the address."""

    def __init__(self, port: int, dead: Iterable[str] = ()) -> None:
        self._port = port
        self._dead = set(dead)
        self.connected: list[tuple[str, int]] = []

    async def connect_tcp(self, host: str, port: int, timeout=None, local_address=None, socket_options=None):  # noqa: ASYNC109
        self.connected.append((host, port))
        if host in self._dead:
            raise httpcore.ConnectError("dead")
        return await httpcore.AnyIOBackend().connect_tcp("127.0.0.1", self._port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Site:
    """The server: pages that redirect, stream, stall and pretend."""

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.endless_bytes = 0

    async def answer(self, request: Request) -> Response:
        self.hosts.append(request.headers["host"])
        page = request.path_params["page"]
        if page == "slow":
            await asyncio.sleep(1)
        pages = {
            "to": lambda: RedirectResponse(request.query_params["url"], status_code=302),
            "round": lambda: RedirectResponse("/round", status_code=307),
            "endless": lambda: StreamingResponse(self._endless()),
            "packed": lambda: Response(b"\x1f\x8b", headers={"content-encoding": "gzip"}),
            "gone.txt": lambda: Response(status_code=404),
            "page": lambda: Response("<p>The tide.</p>", media_type="text/html"),
        }
        return pages.get(page, lambda: Response("The tide.", media_type="text/plain"))()

    async def _endless(self):
        while True:
            self.endless_bytes += 65536
            yield b"x" * 65536
            # Whether the client has gone away shows only then.
            await asyncio.sleep(0)


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[Site, int]]:
    made = Site()
    with served(Starlette(routes=[Route("/{page:path}", made.answer)])) as url:
        yield made, int(url.rpartition(":")[2])


@pytest.fixture
def network(site: tuple[Site, int]) -> ToTheServer:
    site[0].hosts.clear()
    return ToTheServer(site[1])


@pytest.fixture
def get(network: ToTheServer) -> Iterator[Callable[..., Awaitable[Fetched]]]:
    """Fetch with the made-up names and addresses, or with what the test says instead."""
    with contextlib.ExitStack() as stack:

        async def run(url: str, **changed: Any) -> Fetched:
            arguments = {"max_bytes": 10_000, "timeout_s": 10.0, "resolve": known, "network": network, **changed}
            fetched = await fetch(url, **arguments)
            stack.enter_context(fetched.file)
            return fetched

        yield run


async def test_a_document_is_fetched_from_the_address_that_was_checked(get, network, site) -> None:
    """The connection goes to the address, the request bears the name."""
    fetched = await get("http://docs.example:8080/tides/table%20one.txt?x=1#top")

    assert fetched.file.read() == b"The tide."
    assert (fetched.filename, fetched.num_bytes) == ("table one.txt", 9)
    assert network.connected == [(PUBLIC, 8080)]
    assert site[0].hosts == ["docs.example:8080"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a%00b.txt", "a_b.txt"),
        ("..%2F..%2Fpasswd", ".._.._passwd"),
        ("x" * 300 + ".txt", "x" * 196 + ".txt"),
        ("a%FF.txt", "a\ufffd.txt"),
    ],
)
async def test_a_name_is_one_of_a_file(get, path: str, name: str) -> None:
    assert (await get(f"http://docs.example/{path}")).filename == name


async def test_a_page_without_a_name_goes_by_its_host(get) -> None:
    assert (await get("http://docs.example/page")).filename == "page.html"
    assert (await get("http://docs.example/")).filename == "docs.example"


@pytest.mark.parametrize(
    "host",
    [
        "inner.example",
        "mixed.example",
        "nowhere.example",
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        # Metadata of clouds: Alibaba, Azure, Oracle.
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "192.0.0.9",
        "192.88.99.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "198.18.0.1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:10.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "[2001:1::1]",
        "[::ffff:168.63.129.16]",
        "[64:ff9b::c000:c0]",
        "[fe80::1]",
        "[fc00::1]",
        "[fec0::1]",
        "[ff02::1]",
        "[2001:db8::1]",
    ],
)
async def test_what_is_not_public_is_never_connected_to(get, network, host: str) -> None:
    """Neither at once nor after a redirect; the words do not tell an inner name from one that does not exist."""
    for url in (f"http://{host}/secret", f"http://docs.example/to?url=http://{host}/secret"):
        with pytest.raises(FetchError, match="has no public address"):
            await get(url)

    assert {address for address, _ in network.connected} <= {PUBLIC}


@pytest.mark.parametrize("spelling", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1"])
async def test_other_spellings_of_this_machine_change_nothing(get, network, spelling: str) -> None:
    """A resolver takes them for addresses; what it says is checked, not what the URL says."""

    async def as_the_c_library(host: str, port: int) -> list[str]:
        return [socket.inet_ntoa(socket.inet_aton(host))]

    with pytest.raises(FetchError, match=r"has no public address|no URL"):
        await get(f"http://{spelling}/", resolve=as_the_c_library)

    assert network.connected == []


async def test_the_systems_resolver_is_asked_by_default(get, network) -> None:
    with pytest.raises(FetchError, match="localhost has no public address"):
        await get("http://localhost/", resolve=resolve)

    assert network.connected == []


async def test_names_that_are_slow_to_resolve_hold_up_no_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, the event loop's own threads are free."""
    answer = threading.Event()

    def slow(*_: object, **__: object) -> list[object]:
        answer.wait()
        return []

    with ThreadPoolExecutor(max_workers=2) as threads:
        asyncio.get_running_loop().set_default_executor(threads)
        monkeypatch.setattr(socket, "getaddrinfo", slow)
        lookups = [asyncio.ensure_future(resolve("slow.example", 80)) for _ in range(100)]
        try:
            await asyncio.sleep(0)
            assert await asyncio.wait_for(asyncio.to_thread(lambda: "done"), 10) == "done"
            assert not any(lookup.done() for lookup in lookups)
        finally:
            answer.set()
        assert await asyncio.gather(*lookups) == [[]] * 100


async def test_a_name_is_resolved_once_per_connection_so_that_a_second_answer_changes_nothing(get, network) -> None:
    """DNS rebinding: the first answer is public, every later one is not; the connection goes to the first."""
    answers = iter([[PUBLIC], ["127.0.0.1"], ["127.0.0.1"]])

    async def rebinding(host: str, port: int) -> list[str]:
        return next(answers)

    fetched = await get("http://docs.example/a.txt", resolve=rebinding)

    assert fetched.num_bytes == 9
    assert network.connected == [(PUBLIC, 80)]


async def test_the_next_address_is_tried_when_one_is_dead(get, site) -> None:
    network = ToTheServer(site[1], dead=["2606:2800:220:1::1"])

    fetched = await get("http://two.example/a.txt", network=network)

    assert fetched.num_bytes == 9
    assert [address for address, _ in network.connected] == NAMES["two.example"]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///etc/passwd", "begins with"),
        ("ftp://docs.example/a", "begins with"),
        ("gopher://docs.example/a", "begins with"),
        ("docs.example/a", "begins with"),
        ("http:///a", "begins with"),
        ("http://user:secret@docs.example/a", "no name or password"),
        ("http://user@docs.example/a", "no name or password"),
        ("http://docs.example:99999999/a", "no URL"),
        ("http://xn--/", "no URL"),
        ("http://xn--a/", "no URL"),
        ("http://docs.example/" + "a" * 9000, "characters"),
        ("http://docs.example/to?url=file:///etc/passwd", "begins with"),
        ("http://docs.example/to?url=http://user:secret@docs.example/", "no name or password"),
        ("http://docs.example/to?url=http://xn--/", "leads on to what is no URL"),
        ("http://docs.example/to?url=http://[", "leads on to what is no URL|no public address"),
        ("http://docs.example/gone.txt", "status 404"),
        ("http://docs.example/packed", "compressed"),
        ("http://" + "a" * 70 + ".example/", "no (URL|public address)"),
    ],
)
async def test_what_is_refused_says_why(get, url: str, reason: str) -> None:
    with pytest.raises(FetchError, match=reason) as raised:
        await get(url)

    assert raised.value.param == "url"
    assert "secret" not in str(raised.value)


async def test_redirects_are_followed_but_not_for_ever(get, site) -> None:
    led = await get("http://docs.example/to?url=/end.txt")
    assert (led.filename, len(site[0].hosts)) == ("end.txt", 2)

    with pytest.raises(FetchError, match="more than 5 times"):
        await get("http://docs.example/round")


async def test_a_redirect_from_https_to_http_is_not_followed(get, network, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked for in secret is not sent openly. The connection does without encryption, the URL does not know."""
    connect = network.connect_tcp

    async def connect_without_tls(*arguments, **named):
        stream = await connect(*arguments, **named)

        async def no_tls(*_, **__):
            return stream

        monkeypatch.setattr(stream, "start_tls", no_tls)
        return stream

    monkeypatch.setattr(network, "connect_tcp", connect_without_tls)

    assert (await get("https://docs.example/to?url=https://docs.example/a.txt")).num_bytes == 9
    with pytest.raises(FetchError, match="from https to http"):
        await get("https://docs.example/to?url=http://docs.example/a.txt")


async def test_a_document_without_end_is_broken_off(get, site) -> None:
    """Little more is taken than the limit says."""
    with pytest.raises(FetchError, match="more than 100,000 bytes"):
        await get("http://docs.example/endless", max_bytes=100_000)

    assert site[0].endless_bytes < 20_000_000


async def test_a_server_that_stalls_is_left(get) -> None:
    with pytest.raises(FetchError, match=r"within 0\.2 seconds"):
        await get("http://docs.example/slow", timeout_s=0.2)


async def test_what_does_not_speak_http_is_told(get) -> None:
    """TLS to a server without it."""
    with pytest.raises(FetchError, match="cannot be reached"):
        await get("https://docs.example/a")


@pytest.mark.parametrize("address", [PUBLIC, "1.1.1.1", "2606:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)
