"""Errors: OpenAI's object with the right status everywhere, what a client can do about it, and nothing internal."""

import json
import re
import socket
from collections.abc import Callable, Iterator

import httpx
import openai
import pytest
from structlog.testing import capture_logs

from rag_server import errors
from rag_server.api.errors import describe, error_headers, error_response, public_message
from rag_server.protocols import Embedder
from tests.live import Live, live_server

CODES: list[tuple[errors.RagServerError, int, str, str]] = [
    (errors.InvalidRequestError("m", "p"), 400, "invalid_request_error", "invalid_request"),
    (errors.InvalidJsonError("m"), 400, "invalid_request_error", "invalid_json"),
    (errors.UnauthorizedError("m"), 401, "authentication_error", "invalid_api_key"),
    (errors.ForbiddenError("m"), 403, "permission_error", "forbidden"),
    (errors.InsufficientScopeError("m"), 403, "permission_error", "insufficient_scope"),
    (errors.NotFoundError("m"), 404, "invalid_request_error", "not_found"),
    (errors.ModelNotFoundError("m"), 404, "invalid_request_error", "model_not_found"),
    (errors.RequestTimeoutError("m"), 408, "invalid_request_error", "request_timeout"),
    (errors.EmbeddingMismatchError("m"), 409, "invalid_request_error", "embedding_mismatch"),
    (errors.PayloadTooLargeError("m"), 413, "invalid_request_error", "payload_too_large"),
    (errors.UnsupportedEncodingError("m"), 415, "invalid_request_error", "unsupported_content_encoding"),
    (errors.RateLimitedError("m", 1), 429, "rate_limit_error", "rate_limit_exceeded"),
    (errors.RateLimitedError("m", 1, "insufficient_quota"), 429, "rate_limit_error", "insufficient_quota"),
    (errors.ConfigError("m"), 500, "server_error", "invalid_configuration"),
    (errors.RerankError("m"), 500, "server_error", "rerank_failed"),
    (errors.MissingExtraError("m"), 501, "server_error", "missing_extra"),
    (errors.EngineProtocolError("m"), 502, "server_error", "engine_protocol_error"),
    (errors.OverloadedError("m", 1), 503, "server_error", "overloaded"),
    (errors.EngineUnavailableError("m"), 503, "server_error", "engine_unavailable"),
    (errors.IndexUnavailableError("m"), 503, "server_error", "index_unavailable"),
    (errors.StoreError("m"), 503, "server_error", "store_unavailable"),
    (errors.DeadlineExceededError("m"), 504, "server_error", "deadline_exceeded"),
]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """A server with a vector store `docs`; it has no key."""
    with live_server(tmp_path_factory.mktemp("errors"), embedder) as server:
        server.create("docs", file_ids=[server.upload("cats.md", "Cats sleep all day.")])
        server.index_waiting()
        yield server


@pytest.mark.parametrize(("error", "status", "kind", "code"), CODES)
def test_named_errors_have_a_status_a_type_and_a_code(error: errors.RagServerError, status: int, kind: str, code: str) -> None:
    """The object has OpenAI's four fields and no other, and `param` where it is known."""
    param = "p" if status == 400 and code == "invalid_request" else None

    found, body = describe(error)

    assert found == status
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert (body["error"]["type"], body["error"]["code"], body["error"]["param"]) == (kind, code, param)


def test_every_named_error_of_a_request_is_in_the_table() -> None:
    """A new kind of error gets a status on purpose: 500 is for those that the list above names, and for commands."""
    only_commands = {
        errors.DocumentError,
        errors.UnsupportedFormatError,
        errors.CancelledByUserError,
        errors.ClusterUnavailableError,
        errors.DimensionMismatchError,
        errors.TrainingDataError,
        errors.TrainingDivergedError,
        errors.UnsupportedModelError,
        errors.OutOfMemoryError,
        errors.WorseModelError,
    }
    tested = {type(error) for error, *_ in CODES} | only_commands | {errors.EngineRequestError}

    kinds: set[type[errors.RagServerError]] = set()
    waiting = errors.RagServerError.__subclasses__()
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind.__module__ == errors.__name__ and not any(issubclass(kind, known) for known in tested):
            kinds.add(kind)

    assert kinds == set()


TRANSIENT = (
    errors.RateLimitedError("m", 1),
    errors.OverloadedError("m", 1),
    errors.EngineUnavailableError("m"),
    errors.IndexUnavailableError("m"),
)
LASTING = (
    errors.NotFoundError("m"),
    errors.EmbeddingMismatchError("m"),
    errors.DeadlineExceededError("m"),
    errors.StoreDamagedError("m"),
    errors.MissingExtraError("m"),
    errors.ConfigError("m"),
)


@pytest.mark.parametrize(
    ("error", "asked"),
    [(error, 2) for error in TRANSIENT] + [(error, 1) for error in LASTING],
    ids=lambda value: type(value).__name__,
)
def test_clients_ask_again_only_where_it_helps(
    error: errors.RagServerError, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenAI's own client, as it is: it tries what passes once more, and what stays not at all."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.0)
    requests: list[httpx.Request] = []
    answer = error_response(error)

    def respond(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        headers = {name: value for name, value in answer.headers.items() if name != "retry-after"}
        return httpx.Response(answer.status_code, headers=headers, content=answer.body)

    client = openai.OpenAI(
        api_key="k",
        base_url="http://localhost/v1",
        max_retries=1,
        http_client=httpx.Client(transport=httpx.MockTransport(respond)),
    )
    with client, pytest.raises(openai.APIStatusError) as raised:
        client.models.list()

    assert len(requests) == asked
    assert raised.value.status_code == describe(error)[0]
    assert raised.value.code == error.code


@pytest.mark.parametrize(("seconds", "header"), [(0.2, "1"), (1.0, "1"), (1.2, "2"), (59, "59")])
def test_retry_after_is_in_whole_seconds_rounded_up(seconds: float, header: str) -> None:
    """Whoever comes back after it is not too early."""
    assert error_headers(errors.RateLimitedError("m", seconds))["retry-after"] == header
    assert error_headers(errors.OverloadedError("m", seconds)) == {"retry-after": header, "x-should-retry": "true"}


def test_engines_refusals_are_handed_on_as_they_are() -> None:
    """Its own object goes through; what is none is put into one."""
    own = {"error": {"message": "m", "type": "BadRequestError", "param": "max_tokens", "code": 400}}

    assert describe(errors.EngineRequestError(422, own)) == (422, own)
    status, body = describe(errors.EngineRequestError(418, ["teapot"]))
    assert (status, body["error"]["code"]) == (418, "engine_refused")


@pytest.mark.parametrize(
    "error",
    [
        errors.StoreError("/var/lib/rag/rag.db: database is locked; SELECT * FROM keys"),
        errors.StoreDamagedError("/var/lib/rag/rag.db: malformed"),
        errors.ConfigError("RAG_EMBEDDER__MODEL: /var/lib/model is not a model folder"),
        errors.EmbeddingModelGoneError("collection 'a' was built with m, which cannot be loaded (/var/lib/model)"),
    ],
)
def test_what_names_folders_and_statements_stays_in_the_log(error: errors.RagServerError) -> None:
    """The client gets a sentence without them; the log has the whole message."""
    with capture_logs() as lines:
        body = bytes(error_response(error).body).decode()

    assert "/var" not in body
    assert "SELECT" not in body
    assert public_message(error) in body
    assert [line["reason"] for line in lines] == [str(error)]


def test_damaged_store_is_told_without_its_place(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over HTTP too, on every route that reads it, the key's own look-up included."""
    monkeypatch.setattr(live.services.store.database, "damage", f"{live.settings.data_dir} is damaged")

    answers = [live.client.get("/v1/files"), live.client.get("/v1/files", headers={"authorization": "Bearer rag-x"})]

    for answer in answers:
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "store_unavailable" or answer.json()["error"]["code"] == "store_damaged"
        assert str(live.settings.data_dir) not in answer.text
        assert answer.headers["x-should-retry"] == "false"


JSON = {"content-type": "application/json"}
Send = Callable[[httpx.Client], httpx.Response]
FAULTS: dict[str, tuple[Send, int, str, str | None]] = {
    "malformed JSON": (lambda c: c.post("/v1/rerank", content=b'{"query": ', headers=JSON), 400, "invalid_json", None),
    "no body": (lambda c: c.post("/v1/rerank", headers=JSON), 400, "invalid_request", None),
    "JSON that is no object": (lambda c: c.post("/v1/rerank", json=[1]), 400, "invalid_request", None),
    "a field of a wrong type": (
        lambda c: c.post("/v1/rerank", json={"query": 1, "documents": ["a"]}),
        400,
        "invalid_request",
        "query",
    ),
    "a missing field": (lambda c: c.post("/v1/rerank", json={"query": "a"}), 400, "invalid_request", "documents"),
    "another content type": (
        lambda c: c.post("/v1/rerank", content=b'{"query": "a"}', headers={"content-type": "text/plain"}),
        400,
        "invalid_request",
        None,
    ),
    "no content type": (lambda c: c.post("/v1/rerank", content=b'{"query": "a"}'), 400, "invalid_request", None),
    "a form for JSON": (lambda c: c.post("/v1/rerank", data={"query": "a"}), 400, "invalid_request", None),
    "a wrong number in the query": (lambda c: c.get("/v1/vector_stores?limit=many"), 400, "invalid_request", "limit"),
    "a number out of bounds": (lambda c: c.get("/v1/vector_stores?limit=" + "9" * 5000), 400, "invalid_request", "limit"),
    "an unknown route": (lambda c: c.get("/v1/none"), 404, "unknown_url", None),
    "an unknown file of the page": (lambda c: c.get("/ui/none"), 404, "unknown_url", None),
    "another method": (lambda c: c.put("/v1/rerank"), 405, "method_not_allowed", None),
    "an unknown vector store": (lambda c: c.get("/v1/vector_stores/none"), 404, "not_found", None),
    "an unknown model": (
        lambda c: c.post("/v1/chat/completions", json={"model": "rag/none", "messages": [{"role": "user", "content": "a"}]}),
        404,
        "model_not_found",
        None,
    ),
    "an upload that is no form": (lambda c: c.post("/v1/files", json={}), 400, "invalid_request", "file"),
    "a form without an end": (
        lambda c: c.post("/v1/files", content=b"--b\r\n", headers={"content-type": "multipart/form-data; boundary=b"}),
        400,
        "invalid_request",
        "file",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_of_a_request_is_an_error_object(live: Live, name: str) -> None:
    """Whoever finds it, a route or the framework, it is told in the same shape."""
    send, status, code, param = FAULTS[name]

    response = send(live.client)

    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
    assert error["message"]
    assert response.headers["x-request-id"]


def test_refused_method_says_which_there_are(live: Live) -> None:
    """As the standard demands of 405 (RFC 9110, 15.5.6)."""
    assert live.client.put("/v1/rerank").headers["allow"] == "POST"


def test_long_texts_are_not_given_back_whole() -> None:
    """What a request says may be megabytes; its error is not."""
    body = bytes(error_response(errors.NotFoundError(f"there is no model {'a' * 10**6}")).body)

    assert len(body) < 2000
    assert b"there is no model aaa" in body


def test_unforeseen_errors_tell_nothing(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to a bug is an error object without a word of it, which no client tries again."""

    def crash(*_: object, **__: object) -> None:
        raise RuntimeError(f"SELECT secret FROM {live.settings.data_dir}")

    monkeypatch.setattr(live.services.store.vector_stores, "get", crash)

    response = live.client.get("/v1/vector_stores/docs")

    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert response.json()["error"]["type"] == "server_error"
    assert response.headers["x-should-retry"] == "false"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"SELECT|Runtime|Traceback|/", response.json()["error"]["message"])


def test_crashes_are_counted(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """The metrics know of every answer, also of those that no route gave."""

    def crash(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(live.services.store.vector_stores, "get", crash)
    live.client.get("/v1/vector_stores/docs")

    line = 'rag_requests_total{method="GET",route="/v1/vector_stores/{vector_store_id}",status="500"}'
    assert line in live.client.get("/metrics").text


@pytest.mark.parametrize("line", [b"GARBAGE\r\n\r\n", b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n"])
def test_what_is_no_http_is_refused_by_the_server(live: Live, line: bytes) -> None:
    """It never reaches the application, and ends with a 4xx."""
    url = httpx.URL(live.url)
    with socket.create_connection((url.host, url.port), timeout=5) as connection:
        connection.sendall(line)
        answer = connection.recv(65536)

    assert answer.startswith(b"HTTP/1.1 4")


def test_error_object_is_ascii() -> None:
    """Also when it quotes half a character, which UTF-8 cannot say."""
    body = bytes(error_response(errors.NotFoundError("there is no \ud800 and no ä")).body)

    assert json.loads(body)["error"]["message"] == "there is no \ud800 and no ä"
    assert body.isascii()
