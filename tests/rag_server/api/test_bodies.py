"""Bodies that do not come: they do not hold a place for ever, and a slow line is not taken for one that has stopped."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.types import Message, Receive, Scope, Send

from rag_server.api import bodies
from rag_server.api.bodies import Bodies
from rag_server.config import load_settings
from rag_server.protocols import Embedder
from tests.live import Live, live_server

FORM = "multipart/form-data; boundary=b"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """A server with one place for each kind of work, and none to wait in."""
    limits = {
        f"{work}_{state}": number for work in ("generate", "upload") for state, number in (("running", 1), ("waiting", 0))
    }
    with live_server(tmp_path_factory.mktemp("bodies"), embedder, limits=limits) as server:
        yield server


def stalled(url: str, path: str, content_type: str, body: bytes) -> bytes:
    """Send the head of a request and the beginning of its body; return the answer, which ends with the connection."""
    address = urlsplit(url)
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {content_type}\r\ncontent-length: 100000\r\n\r\n"
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(head.encode() + body)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


@pytest.mark.parametrize(
    ("path", "content_type", "patched"),
    [
        ("/v1/files", FORM, "STALLED_S"),
        ("/v1/files", FORM, "BODY_TIMEOUT_S"),
        ("/v1/chat/completions", "text/plain", "BODY_TIMEOUT_S"),
        ("/v1/chat/completions", FORM, "BODY_TIMEOUT_S"),
        ("/v1/chat/completions", "application/json", "BODY_TIMEOUT_S"),
    ],
)
def test_body_that_stops_gives_its_place_back(
    live: Live, monkeypatch: pytest.MonkeyPatch, path: str, content_type: str, patched: str
) -> None:
    """It is answered 408 and the connection ends, whatever it is said to be; the next request gets the place."""
    monkeypatch.setattr(bodies, patched, 0.1)
    answer = stalled(live.url, path, content_type, b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n')
    monkeypatch.undo()
    message = {"role": "user", "content": "a"}
    chat = live.client.post("/v1/chat/completions", json={"model": "scripted", "messages": [message]})

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code": "request_timeout"' in answer
    assert chat.status_code == 200
    assert live.upload("a.txt", "a")


def test_upload_is_no_json(live: Live) -> None:
    """One that is said to be JSON is not read into memory to be looked at: it is refused for being no form."""
    answer = live.client.post("/v1/files", content=b"NaN", headers={"content-type": "application/json"})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")


async def run(receive: Receive, *, pause_s: float = 0.0) -> tuple[int, int]:
    """Let an upload go through to an application that reads it, with pauses; return the status and the bytes that were read."""
    num_bytes = 0
    sent: list[Message] = []

    async def application(_: Scope, receive: Receive, send: Send) -> None:
        nonlocal num_bytes
        more_body = True
        while more_body:
            message = await receive()
            num_bytes += len(message["body"])
            more_body = message["more_body"]
            await asyncio.sleep(pause_s)
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/v1/files", "headers": []}
    services: Any = SimpleNamespace(settings=load_settings({}))
    await Bodies(application, services)(scope, receive, send)
    return sent[0]["status"], num_bytes


def receiving(parts: AsyncIterator[bytes], *, leaves_after_s: float = 0.0) -> Receive:
    """Give the parts, and then that the client goes away."""
    is_over = False

    async def receive() -> Message:
        nonlocal is_over
        if is_over:
            await asyncio.sleep(leaves_after_s)
            return {"type": "http.disconnect"}
        part = await anext(parts, b"")
        is_over = part == b""
        return {"type": "http.request", "body": part, "more_body": not is_over}

    return receive


async def trickle(num_parts: int, *, every_s: float) -> AsyncIterator[bytes]:
    for _ in range(num_parts):
        await asyncio.sleep(every_s)
        yield b"x" * 100


@pytest.mark.parametrize(("bytes_per_s", "status"), [(1, 200), (1_000_000, 408)])
async def test_slow_line_takes_its_time(monkeypatch: pytest.MonkeyPatch, bytes_per_s: int, status: int) -> None:
    """What comes adds to the time; who sends less than a slow line does is stopped, though something comes all the time."""
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", 0.1)
    monkeypatch.setattr(bodies, "MIN_UPLOAD_BYTES_PER_S", bytes_per_s)

    answered, num_bytes = await run(receiving(trickle(40, every_s=0.01)))

    assert answered == status
    assert (num_bytes == 4000) == (status == 200)


async def test_time_of_the_application_is_not_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither while what has come is stored, nor once all of it has."""
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", 0.1)
    monkeypatch.setattr(bodies, "STALLED_S", 0.1)
    monkeypatch.setattr(bodies, "MIN_UPLOAD_BYTES_PER_S", 1_000_000)

    assert await run(receiving(trickle(10, every_s=0.0), leaves_after_s=0.3), pause_s=0.03) == (200, 1000)
