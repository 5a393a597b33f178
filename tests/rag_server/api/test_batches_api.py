"""Batches over HTTP: what may be asked for, what is answered, and who may ask. Here nobody works on them but the tests."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai.types import Batch as OpenAIBatch

from rag_server.api.routes import batches as routes
from rag_server.batch_types import Batch, BatchError, BatchRow, BatchUsage, NewBatch, RowError, RowResult
from rag_server.protocols import Embedder
from rag_server.store.batches import Batches
from rag_server.types import Access, Caller
from tests.live import Live, live_server

CHAT = "/v1/chat/completions"
REQUEST = {"endpoint": CHAT, "completion_window": "24h"}
LINE = {"custom_id": "one", "method": "POST", "url": CHAT, "body": {"model": "scripted", "messages": []}}
NEVER = (
    "in_progress_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
    "output_file_id",
    "error_file_id",
    "errors",
    "model",
    "metadata",
)


class Worker(Batches):
    """Another process, which leases."""

    take = Batches.lease


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Batches, "lease", lambda _: None)
        with live_server(tmp_path_factory.mktemp("batches"), embedder) as server:
            server.make_key()
            yield server


@pytest.fixture
def client(live: Live, request: pytest.FixtureRequest) -> httpx.Client:
    """A key of a tenant of the test's own."""
    return live.as_key(live.make_key(tenant=request.node.name))


def upload(client: httpx.Client, content: bytes = json.dumps(LINE).encode(), purpose: str = "batch") -> str:
    response = client.post("/v1/files", files={"file": ("requests.jsonl", content)}, data={"purpose": purpose})
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


def create(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    body = {**REQUEST, **fields}
    response = client.post("/v1/batches", json={"input_file_id": upload(client), **body})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def get(client: httpx.Client, batch_id: str) -> dict[str, Any]:
    response = client.get(f"/v1/batches/{batch_id}")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    OpenAIBatch.model_validate(found, strict=True)
    return found


def leased(live: Live, made: dict[str, Any]) -> tuple[Worker, Batch]:
    """The batch, and the process that works on it; all before it are ended."""
    worker = Worker(live.services.store.database)
    while (batch := worker.take()) is not None and batch.id != made["id"]:
        worker.finish(batch, "cancelled")
    assert batch is not None
    return worker, batch


def test_a_batch_is_made_of_a_file(client: httpx.Client) -> None:
    """It has every field of OpenAI's object, null where there is nothing yet, and a day of time."""
    file = upload(client)

    response = client.post("/v1/batches", json={**REQUEST, "input_file_id": file})

    assert response.status_code == 200
    made = response.json()
    assert made.keys() == OpenAIBatch.model_fields.keys()
    assert {name for name, value in made.items() if value is None} == set(NEVER)
    assert made["id"].startswith("batch_")
    assert (made["object"], made["status"], made["endpoint"], made["input_file_id"]) == ("batch", "validating", CHAT, file)
    assert made["expires_at"] - made["created_at"] == 24 * 3600
    assert made["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    assert made["usage"]["total_tokens"] == 0
    assert get(client, made["id"]) == made


@pytest.mark.parametrize("endpoint", [CHAT, "/v1/completions", "/v1/embeddings", "/v1/responses"])
def test_what_is_asked_for_is_kept(live: Live, client: httpx.Client, endpoint: str) -> None:
    expiry = {"anchor": "created_at", "seconds": 7200}

    made = create(client, endpoint=endpoint, metadata={"topic": "räg"}, output_expires_after=expiry)

    assert (made["endpoint"], made["metadata"]) == (endpoint, {"topic": "räg"})
    _, batch = leased(live, made)
    assert batch.output_expires_after_s == 7200


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"endpoint": "/v1/moderations"}, "endpoint"),
        ({"endpoint": "/v1/batches"}, "endpoint"),
        ({"endpoint": None}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"completion_window": None}, "completion_window"),
        ({"input_file_id": 7}, "input_file_id"),
        ({"input_file_id": ""}, "input_file_id"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 3599}}, "output_expires_after.seconds"),
        ({"output_expires_after": {"anchor": "last_active_at", "seconds": 3600}}, "output_expires_after.anchor"),
        ({"priority": 1}, "priority"),
    ],
)
def test_what_cannot_be_is_refused(client: httpx.Client, change: dict[str, Any], param: str) -> None:
    """The field is named, and nothing is made."""
    response = client.post("/v1/batches", json={"input_file_id": upload(client), **REQUEST, **change})

    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert client.get("/v1/batches").json()["data"] == []


@pytest.mark.parametrize("missing", ["input_file_id", "endpoint", "completion_window"])
def test_what_is_missing_is_named(client: httpx.Client, missing: str) -> None:
    body = {name: value for name, value in {"input_file_id": "file-1", **REQUEST}.items() if name != missing}

    response = client.post("/v1/batches", json=body)

    assert (response.status_code, response.json()["error"]["param"]) == (400, missing)


def test_the_file_is_looked_at_first(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not there, was sent for something else, or is too large makes no batch."""
    monkeypatch.setattr(routes, "MAX_BYTES", 1024**2)
    files = ["file-missing", upload(client, purpose="assistants"), upload(client, b"x" * (1024**2 + 1))]

    answers = [client.post("/v1/batches", json={**REQUEST, "input_file_id": file}) for file in files]

    assert [answer.status_code for answer in answers] == [404, 400, 400]
    assert [answer.json()["error"]["param"] for answer in answers] == [None, "input_file_id", "input_file_id"]
    assert "may have 1 MB" in answers[2].json()["error"]["message"]
    assert client.get("/v1/batches").json()["data"] == []
    assert client.post("/v1/batches", json={**REQUEST, "input_file_id": upload(client, b"x" * 1024**2)}).status_code == 200


def test_batches_are_listed_the_newest_first(client: httpx.Client) -> None:
    made = [create(client)["id"] for _ in range(3)]

    first = client.get("/v1/batches", params={"limit": 2}).json()
    second = client.get("/v1/batches", params={"limit": 2, "after": first["last_id"]}).json()

    assert [batch["id"] for batch in first["data"]] == [made[2], made[1]]
    assert (first["object"], first["has_more"], first["first_id"]) == ("list", True, made[2])
    assert [batch["id"] for batch in second["data"]] == [made[0]]
    assert second["has_more"] is False
    for wrong in ({"limit": 0}, {"limit": 101}, {"after": "batch_missing"}):
        assert client.get("/v1/batches", params=wrong).status_code == 400


def test_progress_and_result_are_shown(live: Live, client: httpx.Client) -> None:
    """How far it is, what it used, and where its files are; then it cannot be cancelled any more."""
    made = create(client)
    worker, batch = leased(live, made)
    worker.add_rows(batch, [BatchRow(n, str(n), "{}", str(n)) for n in range(3)])
    worker.begin(batch, model="scripted")
    worker.record(batch, [RowResult(0, 200, "{}", usage=BatchUsage(10, 4, 5, 2)), RowResult(1, 404, "{}")])
    running = get(client, made["id"])
    worker.fail_pending(batch, RowError("batch_expired", "Too late."))
    worker.finalize(batch)
    finalizing = get(client, made["id"])
    worker.finish(batch, "completed", output_file_id="file-1", error_file_id="file-2")
    ended = get(client, made["id"])

    assert (running["status"], running["model"], running["output_file_id"]) == ("in_progress", "scripted", None)
    assert running["request_counts"] == {"total": 3, "completed": 1, "failed": 1}
    assert running["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 15,
    }
    assert (finalizing["status"], finalizing["completed_at"]) == ("finalizing", None)
    assert (ended["status"], ended["output_file_id"], ended["error_file_id"]) == ("completed", "file-1", "file-2")
    assert ended["request_counts"] == {"total": 3, "completed": 1, "failed": 2}
    assert ended["created_at"] <= ended["in_progress_at"] <= ended["finalizing_at"] <= ended["completed_at"]
    refused = client.post(f"/v1/batches/{made['id']}/cancel")
    assert (refused.status_code, refused.json()["error"]["type"]) == (409, "invalid_request_error")
    assert "'completed'" in refused.json()["error"]["message"]
    # OpenAI's clients would try a 409 again.
    assert refused.headers["x-should-retry"] == "false"


def test_errors_of_the_input_are_listed(live: Live, client: httpx.Client) -> None:
    made = create(client)
    worker, batch = leased(live, made)
    worker.fail(batch, [BatchError("url_mismatch", "It differs.", 2, "url"), BatchError("empty_file", "There is none.")])

    found = get(client, made["id"])

    assert (found["status"], found["request_counts"]["total"], found["failed_at"] is None) == ("failed", 0, False)
    assert found["errors"] == {
        "object": "list",
        "data": [
            {"code": "url_mismatch", "message": "It differs.", "param": "url", "line": 2},
            {"code": "empty_file", "message": "There is none.", "param": None, "line": None},
        ],
    }


def test_a_batch_is_cancelled(live: Live, client: httpx.Client) -> None:
    """Whoever works on it ends it; asking twice is as asking once."""
    made = create(client)

    answers = [client.post(f"/v1/batches/{made['id']}/cancel") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json() == get(client, made["id"])
    assert (answers[0].json()["status"], answers[0].json()["cancelling_at"] is None) == ("cancelling", False)
    worker, batch = leased(live, made)
    worker.finish(batch, "cancelled")
    assert get(client, made["id"])["status"] == "cancelled"


def test_batches_of_the_command_line_are_not_there(live: Live, client: httpx.Client, request: pytest.FixtureRequest) -> None:
    access = Access(request.node.name)
    made = live.services.store.batches.create(NewBatch(CHAT, kind="questions", fingerprint="x"), Caller(access))

    assert client.get("/v1/batches").json()["data"] == []
    assert client.get(f"/v1/batches/{made.id}").status_code == 404


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_is_not_there_is_said(client: httpx.Client, method: str) -> None:
    response = client.request(method, "/v1/batches/batch_missing" + ("/cancel" if method == "POST" else ""))

    assert response.status_code == 404
    assert response.json()["error"]["message"] == "there is no batch 'batch_missing'"


@pytest.mark.parametrize(
    ("scope", "statuses"), [("ask", (200, 200, 200, 200)), ("read", (403, 200, 200, 403)), ("write", (403, 403, 403, 403))]
)
def test_scopes(live: Live, client: httpx.Client, request: pytest.FixtureRequest, scope: Any, statuses: Any) -> None:
    """Who may ask may have a file of questions asked; its rows are asked as that key."""
    file, made = upload(client), create(client)
    key, secret = live.services.store.keys.create("k", tenant=request.node.name, scopes=[scope])
    limited = live.as_key(secret)

    answers = [
        limited.post("/v1/batches", json={**REQUEST, "input_file_id": file}),
        limited.get("/v1/batches"),
        limited.get(f"/v1/batches/{made['id']}"),
        limited.post(f"/v1/batches/{made['id']}/cancel"),
    ]

    assert tuple(answer.status_code for answer in answers) == statuses
    if scope == "ask":
        _, batch = leased(live, answers[0].json())
        assert batch.caller == Caller(Access(request.node.name), key.id, frozenset({"ask"}))


def test_keys_with_principals_have_batches_of_their_own(live: Live, request: pytest.FixtureRequest) -> None:
    """One that shares the file sees no batch of another one's, and the key without a list sees both."""
    tenant = request.node.name
    ann, bob, all_of_it = (
        live.as_key(live.make_key(tenant, principals)) for principals in (["team", "ann"], ["team", "bob"], None)
    )
    file = upload(ann)
    made = ann.post("/v1/batches", json={**REQUEST, "input_file_id": file}).json()
    bobs = bob.post("/v1/batches", json={**REQUEST, "input_file_id": file}).json()

    assert bob.get(f"/v1/batches/{made['id']}").status_code == 404
    assert [batch["id"] for batch in bob.get("/v1/batches").json()["data"]] == [bobs["id"]]
    assert [batch["id"] for batch in all_of_it.get("/v1/batches").json()["data"]] == [bobs["id"], made["id"]]
