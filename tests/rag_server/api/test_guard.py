"""What is decided before the body of a request is read: who sends it, for what, from where, and how large it is."""

import asyncio
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import structlog
from structlog.testing import capture_logs

from rag_server.api import bodies
from rag_server.api.guard import Guard, sufficient_scopes
from rag_server.protocols import Embedder
from tests.live import Live, live_server

MAX_BODY_BYTES = 4096
TEN_GB = 10 * 1000**3


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """A server that takes small bodies only, with a vector store `docs`; it has no key."""
    with live_server(tmp_path_factory.mktemp("guard"), embedder, limits={"max_body_bytes": MAX_BODY_BYTES}) as server:
        server.create("docs", file_ids=[server.upload("cats.md", "Cats sleep all day.")])
        server.index_waiting()
        yield server


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """A server with a key and a vector store `docs`."""
    with live_server(tmp_path_factory.mktemp("closed"), embedder) as server:
        server.create("docs")
        server.make_key()
        yield server


def exchange(url: str, head: str, *parts: bytes) -> tuple[int, dict[str, str], Any, bool]:
    """Send a request as it stands; return the status, the headers, the JSON of the answer, and whether the server hung up."""
    parsed = httpx.URL(url)
    with socket.create_connection((parsed.host, parsed.port), timeout=10) as connection:
        connection.sendall(f"{head}\r\nhost: {parsed.netloc.decode()}\r\n\r\n".encode())
        for part in parts:
            connection.sendall(part)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(65536)
        status_line, _, rest = answer.partition(b"\r\n")
        lines, _, body = rest.partition(b"\r\n\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines.decode().split("\r\n"))
        while len(body) < int(headers.get("content-length", 0)):
            body += connection.recv(65536)
        connection.settimeout(0.2)
        try:
            hung_up = connection.recv(1) == b""
        except TimeoutError:
            hung_up = False
        except ConnectionResetError:
            hung_up = True
    return int(status_line.split()[1]), headers, json.loads(body or b"null"), hung_up


# A server that begins to read says 100 first.
EXPECT = f"content-type: application/json\r\ncontent-length: {TEN_GB}\r\nexpect: 100-continue"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/files", "/v1/uploads/upload_x/parts", "/v1/none", "/health"])
def test_body_of_ten_gigabytes_is_refused_unread(live: Live, path: str) -> None:
    """It is told from its headers, on every route; not a byte is asked for, and the connection ends."""
    status, headers, answer, hung_up = exchange(live.url, f"POST {path} HTTP/1.1\r\n{EXPECT}")

    assert status == 413
    assert answer["error"]["code"] == "payload_too_large"
    assert answer["error"]["type"] == "invalid_request_error"
    assert headers["connection"] == "close"
    assert hung_up


@pytest.mark.parametrize(
    ("extra", "status"),
    [("", 401), ("\r\nauthorization: Bearer rag-wrong", 401), ("\r\nauthorization: Bearer {reader}", 403)],
)
def test_body_of_who_may_not_send_it_is_not_read(closed: Live, extra: str, status: int) -> None:
    """The key decides first: the body is not asked for."""
    reader = closed.services.store.keys.create("reader", scopes=["read"])[1]
    head = f"POST /v1/chat/completions HTTP/1.1\r\n{EXPECT}{extra.format(reader=reader)}"

    assert exchange(closed.url, head)[0] == status


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/vnd.x+JSON", "text/plain", "multipart/form-data; boundary=b"]
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/vector_stores/docs/search"])
def test_body_that_tells_no_length_is_counted(live: Live, content_type: str, path: str) -> None:
    """A body in chunks is read up to the limit and no further, whatever it is said to be."""
    head = f"POST {path} HTTP/1.1\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked"
    chunk = b"400\r\n" + b" " * 1024 + b"\r\n"

    status, headers, answer, hung_up = exchange(live.url, head, *[chunk] * 5)

    assert (status, answer["error"]["code"], headers["connection"]) == (413, "payload_too_large", "close")
    assert hung_up


def test_body_up_to_the_limit_is_taken(live: Live) -> None:
    """The limit itself is allowed, one byte more is not."""
    body = json.dumps({"query": "cats"}).encode()
    post = "/v1/vector_stores/docs/search"
    headers = {"content-type": "application/json"}

    statuses = [
        live.client.post(post, content=body.ljust(size), headers=headers).status_code
        for size in (MAX_BODY_BYTES, MAX_BODY_BYTES + 1)
    ]

    assert statuses == [200, 413]


def test_files_have_a_limit_of_their_own(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload may be larger than a body of JSON, and is counted against its own limit, announced or not."""
    limit = 100_000
    monkeypatch.setattr(bodies, "UPLOADS", tuple((pattern, limit) for pattern, _ in bodies.UPLOADS))
    form, name = {"purpose": "assistants"}, "a.txt"

    taken = live.client.post("/v1/files", files={"file": (name, b"x" * 50_000)}, data=form)
    announced = live.client.post("/v1/files", files={"file": (name, b"x" * limit)}, data=form)
    request = live.client.build_request("POST", "/v1/files", files={"file": (name, b"x" * limit)}, data=form)
    content = request.read()
    head = f"POST /v1/files HTTP/1.1\r\ncontent-type: {request.headers['content-type']}\r\ntransfer-encoding: chunked"
    chunks = [f"{len(content):x}\r\n".encode() + content + b"\r\n", b"0\r\n\r\n"]
    streamed = exchange(live.url, head, *chunks)
    search = live.client.post("/v1/vector_stores/docs/search", content=b"x" * 50_000)

    assert taken.status_code == 200
    assert announced.status_code == 413
    assert (streamed[0], streamed[2]["error"]["code"]) == (413, "payload_too_large")
    assert search.status_code == 413
    assert len(live.client.get("/v1/files").json()["data"]) == 2


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip", "GZIP"])
def test_compressed_bodies_are_refused_unread(live: Live, encoding: str) -> None:
    """No bomb can go off where nothing is unpacked."""
    head = f"POST /v1/chat/completions HTTP/1.1\r\ncontent-encoding: {encoding}\r\ncontent-length: 100\r\nexpect: 100-continue"

    status, _, answer, _ = exchange(live.url, head)

    assert (status, answer["error"]["code"]) == (415, "unsupported_content_encoding")


def test_plain_encoding_may_be_said(live: Live) -> None:
    """`identity` is no encoding."""
    headers = {"content-encoding": "identity"}

    assert live.client.post("/v1/vector_stores/docs/search", json={"query": "cats"}, headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/vector_stores", "/v1/rerank", "/v1/vector_stores/docs/search"])
@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "rag/docs", "messages": ' + b"[" * 2000 + b"]" * 2000 + b"}",
        b'{"model": "rag/docs", "x": ' + b'{"a":' * 100 + b"1" + b"}" * 101,
        b'{"model": "rag/docs", "temperature": NaN}',
        b'{"model": "rag/docs", "temperature": 1e999}',
        b'{"model": "rag/docs", "seed": ' + b"9" * 2000 + b"}",
        b'{"model": "rag/docs", "query": "\\ud800"}',
        b'{"model": "rag/docs", "query": "\xed\xa0\x80"}',
        b'{"model": "rag/docs", ',
        b"\x00",
    ],
)
def test_harmful_json_is_refused_before_it_is_parsed(live: Live, path: str, body: bytes) -> None:
    """Depth bombs, numbers beyond all bounds and half characters are the sender's mistake on every route."""
    response = live.client.post(path, content=body, headers={"content-type": "application/json"})

    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_json"
    assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "path", ["/v1/files/file%00x", "/v1/models/%00", "/v1/files?after=%00", "/v1/vector_stores/a%00b/files"]
)
def test_addresses_with_nul_characters_are_refused(live: Live, path: str) -> None:
    """PostgreSQL would refuse them, with an error of its own."""
    response = live.client.get(path)

    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_request"


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-123_X.y:z", True), ("a" * 65, False), ("a b", False), ('"}', False), ("", False)]
)
def test_request_id_is_the_clients_if_it_is_a_short_token(live: Live, given: str, kept: bool) -> None:
    """It is answered as it came, or replaced; two requests never share one of the server's own."""
    first, second = (live.client.get("/health", headers={"x-request-id": given}).headers["x-request-id"] for _ in range(2))

    assert (first == given) == kept
    assert (first == second) == kept


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/none", 404), ("PUT", "/v1/models", 405), ("GET", "/v1/models", 200), ("GET", "/ui/none.js", 404)],
)
def test_every_answer_has_a_request_id(live: Live, method: str, path: str, status: int) -> None:
    """Errors and files too, exactly one."""
    response = live.client.request(method, path)

    assert response.status_code == status
    assert len(response.headers.get_list("x-request-id")) == 1


def test_log_lines_carry_the_request_id(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a request leaves in the log is found by the id that the client was told; the answer to a crash has it too."""

    def crash(*_: object, **__: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(live.services.store.vector_stores, "get", crash)
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        response = live.client.get("/v1/vector_stores/docs", headers={"x-request-id": "mine"})

    assert response.status_code == 500
    assert response.headers["x-request-id"] == "mine"
    assert "unforeseen" not in response.text
    assert "unexpected error" in [line["event"] for line in lines]
    assert {line["request_id"] for line in lines} == {"mine"}


@pytest.mark.parametrize(
    ("method", "path", "scopes"),
    [
        ("POST", "/v1/chat/completions", {"ask"}),
        ("GET", "/v1/chat/completions", {"ask"}),
        ("DELETE", "/v1/chat/completions/chatcmpl-1", {"ask"}),
        ("POST", "/v1/completions", {"ask"}),
        ("POST", "/v1/embeddings", {"ask"}),
        ("POST", "/v1/responses", {"ask"}),
        ("GET", "/v1/responses/resp_1/input_items", {"ask"}),
        ("DELETE", "/v1/conversations/conv_1/items/msg_1", {"ask"}),
        ("POST", "/v1/rerank", {"ask"}),
        ("POST", "/v2/rerank", {"ask"}),
        ("POST", "/v1/vector_stores/docs/search", {"ask"}),
        ("POST", "/mcp", {"ask"}),
        ("GET", "/mcp/", {"ask"}),
        ("GET", "/v1/models", {"ask", "read"}),
        ("GET", "/v1/models/rag/docs", {"ask", "read"}),
        ("GET", "/v1/passages/1", {"ask", "read"}),
        ("GET", "/v1/passages/1/original", {"ask", "read"}),
        ("GET", "/v1/vector_stores/docs/files/file-1/passages", {"read"}),
        ("GET", "/v1/rag", {"ask", "read", "write"}),
        ("HEAD", "/v1/rag/", {"ask", "read", "write"}),
        ("POST", "/v1/rag", {"write"}),
        ("GET", "/v1/rag/more", {"read"}),
        ("DELETE", "/v1/models/rag/docs", {"write"}),
        ("GET", "/v1/files", {"read"}),
        ("GET", "/v1/files/file-1/content", {"read"}),
        ("GET", "/v1/vector_stores/search", {"read"}),
        ("HEAD", "/v1/vector_stores", {"read"}),
        ("POST", "/v1/files", {"write"}),
        ("POST", "/v1/uploads/upload_1/parts", {"write"}),
        ("POST", "/v1/vector_stores", {"write"}),
        ("POST", "/v1/vector_stores/docs", {"write"}),
        ("DELETE", "/v1/vector_stores/docs/files/file-1", {"write"}),
        ("POST", "/v1/rerankers", {"write"}),
        ("PATCH", "/v1/anything", {"write"}),
    ],
)
def test_scope_of_a_request(method: str, path: str, scopes: set[str]) -> None:
    """Asking is apart from reading what is stored, and both from changing it; what nobody listed takes `read` or `write`."""
    assert sufficient_scopes(method, path) == scopes


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [(None, {"ask", "read", "write"}), (["ask"], {"ask"}), (["read"], {"read"}), (["write", "read"], {"read", "write"})],
)
def test_key_does_what_its_scopes_say(closed: Live, scopes: list[Any] | None, allowed: set[str]) -> None:
    """What a key was not made for is 403, with the scope that it takes; the rest goes through."""
    client = closed.as_key(closed.services.store.keys.create("scoped", scopes=scopes)[1])
    requests = {
        "ask": ("POST", "/v1/vector_stores/docs/search", {"query": "cats"}),
        "read": ("GET", "/v1/vector_stores/docs", None),
        "write": ("POST", "/v1/vector_stores/docs", {"name": "docs"}),
    }

    for scope, (method, path, body) in requests.items():
        response = client.request(method, path, json=body)
        if scope in allowed:
            assert response.status_code == 200, response.text
        else:
            assert response.status_code == 403
            error = response.json()["error"]
            assert (error["code"], error["type"]) == ("insufficient_scope", "permission_error")
            assert f"--scope {scope}" in error["message"]


OWN = ["127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000", "127.8.9.10"]
FOREIGN = [
    "example.com",
    "127.0.0.1.example.com",
    "localhost.example.com:8000",
    "192.168.0.7",
    "0.0.0.0",
    "[::1",
    "",
    "user@127.0.0.1x",
]


@pytest.mark.parametrize("host", OWN)
def test_open_server_answers_to_this_machines_names(live: Live, host: str) -> None:
    """Whatever of them a client uses."""
    assert live.client.get("/v1/models", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_open_server_answers_to_no_other_name(live: Live, closed: Live, host: str) -> None:
    """A page whose name was made to resolve to this machine reads nothing; with a key the name does not matter."""
    refused = live.client.get("/v1/models", headers={"host": host})
    with_key = closed.as_key(closed.make_key()).get("/v1/models", headers={"host": host})

    assert refused.status_code == 403
    assert "keys create" in refused.json()["error"]["message"]
    assert with_key.status_code == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:3000", 200),
        ("http://127.0.0.1:8000", 200),
        ("http://[::1]:8000", 200),
        ("https://example.com", 403),
        ("http://127.0.0.1.example.com", 403),
        ("null", 403),
        ("http://[", 403),
        ("file://", 403),
    ],
)
def test_open_server_takes_nothing_from_foreign_pages(live: Live, origin: str, status: int) -> None:
    """A form of another page would reach it without asking the browser's user; its own page and local ones may."""
    response = live.client.post(
        "/v1/files", headers={"origin": origin}, files={"file": ("a.txt", b"x")}, data={"purpose": "batch"}
    )

    assert response.status_code == status


def test_key_makes_a_foreign_page_welcome(closed: Live) -> None:
    """A page that has a key got it from somebody."""
    client = closed.as_key(closed.make_key())

    assert client.get("/v1/models", headers={"origin": "https://example.com"}).status_code == 200


def test_server_for_other_machines_is_not_opened_by_revoking_its_last_key(
    tmp_path_factory: pytest.TempPathFactory, embedder: Embedder
) -> None:
    """Nobody is let in without a key where others can reach it, whatever name they call it by."""
    with live_server(tmp_path_factory.mktemp("host"), embedder, host="0.0.0.0") as live:
        key, secret = live.services.store.keys.create("last")
        with_key = live.as_key(secret).get("/v1/models", headers={"host": "rag.example.com"}).status_code
        live.services.store.keys.revoke(key.id)

        assert with_key == 200
        assert live.client.get("/v1/models").status_code == 401


def test_server_declared_open_goes_by_any_name(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> None:
    """Where everyone may ask on purpose, only foreign pages are kept out."""
    overrides: dict[str, Any] = {"host": "0.0.0.0", "auth": {"required": False}}
    with live_server(tmp_path_factory.mktemp("declared"), embedder, **overrides) as live:
        named = {"host": "rag.example.com"}

        assert live.client.get("/v1/models", headers=named).status_code == 200
        assert live.client.get("/v1/models", headers=named | {"origin": "https://rag.example.com"}).status_code == 200
        assert live.client.get("/v1/models", headers=named | {"origin": "https://evil.example.com"}).status_code == 403


def test_websockets_are_refused(live: Live) -> None:
    """There are none, and none can slip in without a key."""
    sent: list[Any] = []

    async def reached(*_: object) -> None:
        pytest.fail("the application was reached")

    async def send(message: Any) -> None:
        sent.append(message)

    guard = Guard(reached, live.services)
    asyncio.run(guard({"type": "websocket", "path": "/health", "headers": []}, reached, send))

    assert sent == [{"type": "websocket.close", "code": 1008}]
