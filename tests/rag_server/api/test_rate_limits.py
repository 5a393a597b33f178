"""Limits of API keys over HTTP: headers, refusals before the body is read, and what answers are charged."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from redis.asyncio import Redis

from rag_server.api import bodies
from rag_server.api.queues import RUNNING
from rag_server.api.rate_limits import duration, limits_of
from rag_server.cache import rate_limiter
from rag_server.cache.rate_limiter import Limit
from rag_server.config import LimitsSettings
from rag_server.protocols import Embedder
from rag_server.types import Caller
from tests.live import Live, live_server

CHAT: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "one two three"}]}
# The scripted engine counts words: three of the prompt, and of its answer "You said: one two three" five.
CHAT_TOKENS = 8
MakeClient = Callable[..., httpx.Client]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """A server whose keys may send five requests a minute, unless they say something else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rate_limiter, "TIMEOUT_S", 10.0)
        folder = tmp_path_factory.mktemp("limits")
        with live_server(folder, embedder, limits={"requests_per_minute": 5}) as server:
            while server.services.cache_child.url is None:
                time.sleep(0.01)
            yield server


@pytest.fixture
def with_limits(live: Live) -> MakeClient:
    """Make a client of a new key with limits of its own."""

    def make(**limits: int) -> httpx.Client:
        return live.as_key(live.services.store.keys.create("limited", limits=limits)[1])

    return make


def remaining(client: httpx.Client, what: str = "tokens") -> int:
    """Return what is left, after a look that costs no tokens, once what was used is charged."""
    response = client.post("/v1/chat/completions", json={"model": "none", "messages": [{"role": "user", "content": "a"}]})
    return int(response.headers[f"x-ratelimit-remaining-{what}"])


def remaining_after_charge(client: httpx.Client, before: int) -> int:
    """Wait for the charge, which follows the answer."""
    while (left := remaining(client)) >= before:
        time.sleep(0.01)
    return left


def test_answers_tell_the_limits_and_the_sixth_request_is_refused(with_limits: MakeClient) -> None:
    """As OpenAI's headers do; the refusal says when to come back, and its body is OpenAI's."""
    client = with_limits()
    answers = [client.get("/v1/models") for _ in range(5)]
    refused = client.get("/v1/models")

    assert [answer.status_code for answer in answers] == [200] * 5
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["4", "3", "2", "1", "0"]
    assert answers[0].headers["x-ratelimit-limit-requests"] == "5"
    # One of five per minute is back after twelve seconds.
    assert answers[0].headers["x-ratelimit-reset-requests"] == "12s"
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert 1 <= int(refused.headers["retry-after"]) <= 12
    assert refused.headers["x-should-retry"] == "true"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"


def test_keys_have_buckets_of_their_own_and_may_have_other_limits(with_limits: MakeClient) -> None:
    """One key's use is none of another's; a key's own limit stands before the settings'."""
    first, second, generous = with_limits(), with_limits(), with_limits(requests_per_minute=100)
    for _ in range(6):
        first.get("/v1/models")

    assert first.get("/v1/models").status_code == 429
    assert second.get("/v1/models").status_code == 200
    assert [generous.get("/v1/models").status_code for _ in range(10)] == [200] * 10


def test_refusal_comes_before_the_body(live: Live) -> None:
    """A request that announces a body and never sends it is refused all the same."""
    secret = live.services.store.keys.create("limited", limits={"requests_per_minute": 1})[1]
    live.as_key(secret).get("/v1/models")
    url = urlsplit(live.url)
    with socket.create_connection((url.hostname, url.port), timeout=30) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {secret}\r\n"
        connection.sendall(f"{head}content-type: application/json\r\ncontent-length: 1000\r\n\r\n".encode())
        status_line = connection.recv(4096).split(b"\r\n")[0]

    assert status_line == b"HTTP/1.1 429 Too Many Requests"


@pytest.mark.parametrize(
    "extra",
    [{}, {"stream": True, "stream_options": {"include_usage": True}}],
    ids=["whole", "stream"],
)
def test_tokens_are_charged_as_the_engine_counts_them(with_limits: MakeClient, extra: dict[str, Any]) -> None:
    """Prompt and answer, from the usage of a whole answer and of a stream."""
    client = with_limits(tokens_per_day=1000, requests_per_minute=10_000)
    assert remaining(client) == 1000
    client.post("/v1/chat/completions", json={**CHAT, **extra}).read()

    assert remaining_after_charge(client, 1000) == 1000 - CHAT_TOKENS


def test_stream_without_usage_is_estimated(with_limits: MakeClient) -> None:
    """A fourth of the bytes: of the request's body, and of the text of the answer."""
    client = with_limits(tokens_per_day=1000, requests_per_minute=10_000)
    request = client.build_request("POST", "/v1/chat/completions", json={**CHAT, "stream": True})
    client.send(request).read()
    expected = len(request.content) // 4 + len("You said: one two three") // 4

    assert remaining_after_charge(client, 1000) == 1000 - expected


def test_used_up_quota_is_another_error_and_not_tried_again(with_limits: MakeClient, live: Live) -> None:
    """OpenAI's client raises its rate limit error at once, since waiting does not help; the models are still listed."""
    client = with_limits(tokens_per_day=5, requests_per_minute=10_000)
    client.post("/v1/chat/completions", json=CHAT)
    while client.post("/v1/chat/completions", json=CHAT).status_code != 429:
        time.sleep(0.01)
    requests: list[httpx.Request] = []
    counting = httpx.Client(trust_env=False, event_hooks={"request": [requests.append]})
    key = client.headers["authorization"].removeprefix("Bearer ")
    with (
        openai.OpenAI(base_url=f"{live.url}/v1", api_key=key, http_client=counting) as sdk,
        pytest.raises(openai.RateLimitError) as caught,
    ):
        sdk.chat.completions.create(**CHAT)

    assert caught.value.code == "insufficient_quota"
    assert len(requests) == 1
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 86_400
    assert client.get("/v1/models").status_code == 200


@pytest.mark.parametrize("announced", [True, False])
def test_uploads_have_a_quota_of_bytes(with_limits: MakeClient, announced: bool) -> None:
    """By what a request announces, before it is read; without an announcement by what was read, for the next one."""
    client = with_limits(upload_bytes_per_day=3000, requests_per_minute=10_000)
    request = client.build_request("POST", "/v1/files", files={"file": ("a.txt", b"a" * 2000)}, data={"purpose": "assistants"})
    body = request.read()
    headers = {"content-type": request.headers["content-type"]}

    def upload() -> int:
        content = body if announced else iter([body])
        return client.post("/v1/files", content=content, headers=headers).status_code

    first, second = upload(), upload()
    if announced:
        assert (first, second) == (200, 429)
    else:
        while second == 200:
            second = upload()
        assert (first, second) == (200, 429)


@pytest.fixture
def narrow(tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    """A server with one place for uploads, in which 3,000 bytes a day may come; the limits are counted."""
    monkeypatch.setattr(rate_limiter, "TIMEOUT_S", 10.0)
    limits = {"upload_bytes_per_day": 3000, "upload_running": 1, "upload_waiting": 4, "max_wait_s": 0.1}
    with live_server(tmp_path / "data", embedder, limits=limits) as live:
        while live.services.cache_child.url is None:
            time.sleep(0.01)
        yield live


def begin_upload(live: Live, num_bytes: int) -> socket.socket:
    """Send the head of an upload of that many bytes, and no more of its body than its first line."""
    url = urlsplit(live.url)
    connection = socket.create_connection((url.hostname, url.port), timeout=30)
    head = f"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-length: {num_bytes}\r\n"
    connection.sendall(f"{head}content-type: multipart/form-data; boundary=b\r\n\r\n--b\r\n".encode())
    return connection


def wait_for_place_taken() -> None:
    """Return once an upload runs."""
    while RUNNING.labels("upload")._value.get() == 0:
        time.sleep(0.01)


def try_upload(live: Live, num_bytes: int = 1500) -> int:
    return live.client.post(
        "/v1/files", files={"file": ("a.txt", b"a" * num_bytes)}, data={"purpose": "assistants"}
    ).status_code


def first_not(status: int, call: Callable[[], int]) -> int:
    """Call until something else is answered, for some seconds: what is given back comes after the answer."""
    for _ in range(300):
        if (found := call()) != status:
            return found
        time.sleep(0.01)
    return status


def test_uploads_that_find_no_place_cost_nothing(narrow: Live) -> None:
    """Refused for want of a place, one after the other, they leave the quota to the one that is taken; the next is too much."""
    with begin_upload(narrow, 10):
        wait_for_place_taken()
        refused = [first_not(429, lambda: try_upload(narrow)) for _ in range(3)]
    taken = first_not(503, lambda: first_not(429, lambda: try_upload(narrow)))

    assert refused == [503] * 3
    assert taken == 200
    assert try_upload(narrow) == 429


def test_upload_that_breaks_off_costs_nothing(narrow: Live) -> None:
    """Its client goes away with the body half sent; then there is room for another one."""
    with begin_upload(narrow, 2900):
        wait_for_place_taken()

    assert first_not(503, lambda: first_not(429, lambda: try_upload(narrow))) == 200


def test_upload_that_stops_costs_nothing(narrow: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is answered 408, and what it announced is given back."""
    monkeypatch.setattr(bodies, "STALLED_S", 0.1)
    with begin_upload(narrow, 2900) as connection:
        status_line = connection.recv(4096).split(b"\r\n")[0]
    monkeypatch.setattr(bodies, "STALLED_S", 30.0)

    assert status_line.startswith(b"HTTP/1.1 408 ")
    assert first_not(429, lambda: try_upload(narrow)) == 200


def test_upload_that_is_too_large_costs_nothing(narrow: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """It announces no size, and is told 413 while it is read; that is not charged."""
    monkeypatch.setattr(bodies, "UPLOADS", tuple((pattern, 5000) for pattern, _ in bodies.UPLOADS))
    head, tail = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n', b"\r\n--b--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=b"}
    too_large = narrow.client.post("/v1/files", content=iter([head, b"a" * 6000, tail]), headers=headers)
    while narrow.services.rate_limiter._charges:
        time.sleep(0.01)

    assert too_large.status_code == 413
    assert try_upload(narrow) == 200


def test_limits_hold_again_after_their_server_was_killed(narrow: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded Valkey comes back, and counts from zero."""
    assert try_upload(narrow) == 200

    async def process_id() -> int:
        redis = Redis.from_url(narrow.services.cache_child.url)
        found = await redis.info("server")
        await redis.aclose()
        return int(found["process_id"])

    os.kill(asyncio.run(process_id()), signal.SIGKILL)
    while narrow.services.cache_child.url is not None:
        time.sleep(0.01)
    # While it is away nobody is limited.
    assert first_not(200, lambda: try_upload(narrow)) == 429


def test_limits_of_the_key_stand_before_the_settings() -> None:
    """Each by itself; None of the settings is no limit."""
    settings = LimitsSettings(requests_per_minute=5, tokens_per_day=7)
    caller = Caller(key_id="key", limits={"requests_per_minute": 9, "upload_bytes_per_day": 1})

    assert limits_of(None, LimitsSettings()) == []
    assert limits_of(caller, settings) == [
        Limit("requests_per_minute", "rate", 9, 60),
        Limit("tokens_per_day", "quota", 7, 86_400),
        Limit("upload_bytes_per_day", "quota", 1, 86_400),
    ]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0ms"), (0.0064, "6ms"), (1, "1s"), (8.64, "8.64s"), (60, "1m0s"), (360.2, "6m0s"), (86_399, "23h59m59s")],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


async def test_requests_pass_while_the_limits_cannot_be_counted(tmp_path: Path, embedder: Embedder) -> None:
    """Without its server nobody is limited, and no header tells a limit."""
    with live_server(tmp_path / "data", embedder, limits={"requests_per_minute": 1}) as live:
        await asyncio.to_thread(live.services.cache_child.stop)
        answers = [live.client.get("/v1/models") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200] * 3
    assert "x-ratelimit-limit-requests" not in answers[0].headers
