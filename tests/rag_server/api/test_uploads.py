"""Files that are sent in parts, over HTTP."""

import hashlib
import random
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from sqlalchemy import func, select

from rag_server.api.schemas_stores import MAX_FILE_BYTES
from rag_server.protocols import Embedder
from rag_server.store import schema
from rag_server.store.upload_sessions import MAX_PART_BYTES
from rag_server.store.uploads import PART_BYTES
from tests.live import Live, live_server


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """One server for the module, open to everyone, with or without a key."""
    with live_server(tmp_path_factory.mktemp("uploads"), embedder, auth={"required": False}) as server:
        yield server


def begin(live: Live, num_bytes: int, client: httpx.Client | None = None, **fields: Any) -> str:
    body = {"filename": "big.bin", "purpose": "assistants", "bytes": num_bytes, "mime_type": "text/plain", **fields}
    response = (client or live.client).post("/v1/uploads", json=body)
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


def add(live: Live, upload_id: str, data: bytes, client: httpx.Client | None = None) -> httpx.Response:
    return (client or live.client).post(f"/v1/uploads/{upload_id}/parts", files={"data": ("blob", data)})


def complete(live: Live, upload_id: str, part_ids: list[str], **fields: Any) -> httpx.Response:
    return live.client.post(f"/v1/uploads/{upload_id}/complete", json={"part_ids": part_ids, **fields})


def file_of(live: Live, upload_id: str) -> str:
    """The id of the file that the upload becomes."""
    sessions = schema.upload_sessions.c
    with live.services.store.database.read() as connection:
        return str(connection.execute(select(sessions.file_id).where(sessions.id == upload_id)).scalar_one())


def num_pieces(live: Live, file_id: str) -> int:
    """How many pieces of the file are stored, seen or not."""
    query = select(func.count()).where(schema.upload_parts.c.upload_id == file_id)
    with live.services.store.database.read() as connection:
        return int(connection.execute(query).scalar_one())


def test_official_client_sends_a_file_in_chunks(live: Live, tmp_path: Any) -> None:
    """What OpenAI's client cuts into parts comes back byte by byte, and is a file like any other."""
    content = random.Random(1).randbytes(3 * PART_BYTES + 17)
    (tmp_path / "large.bin").write_bytes(content)

    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as client:
        done = client.uploads.upload_file_chunked(
            file=tmp_path / "large.bin",
            mime_type="application/octet-stream",
            purpose="assistants",
            part_size=PART_BYTES + 5,
            md5=hashlib.md5(content).hexdigest(),
        )
        listed = [file.id for file in client.files.list()]
        read = client.files.content(done.file.id).read()

    assert (done.status, done.bytes, done.filename, done.file.bytes) == ("completed", len(content), "large.bin", len(content))
    assert done.file.status == "processed"
    assert done.file.id in listed
    assert read == content


def test_parts_in_any_order_and_at_once_are_put_together_as_named(live: Live) -> None:
    """Parts of several pieces that arrive at the same time make the file in the order of `part_ids`, not of arrival."""
    source = random.Random(2)
    parts = [source.randbytes(size) for size in (PART_BYTES + 1, 1, 2 * PART_BYTES, 100_000, PART_BYTES)]
    upload_id = begin(live, sum(map(len, parts)))
    arrival = [3, 0, 4, 2, 1]

    with ThreadPoolExecutor(max_workers=4) as pool:
        ids = dict(zip(arrival, pool.map(lambda n: add(live, upload_id, parts[n]).json()["id"], arrival), strict=True))
    done = complete(live, upload_id, [ids[number] for number in range(5)]).json()

    assert live.client.get(f"/v1/files/{done['file']['id']}/content").content == b"".join(parts)


def test_part_that_is_not_named_is_dropped(live: Live) -> None:
    """A part that was sent twice, since its first answer was lost, is in the file once, and the other copy is not kept."""
    upload_id = begin(live, 6)
    first, _, second = (add(live, upload_id, data).json()["id"] for data in (b"abc", b"abc", b"def"))

    done = complete(live, upload_id, [first, second]).json()

    assert live.client.get(f"/v1/files/{done['file']['id']}/content").content == b"abcdef"
    assert num_pieces(live, done["file"]["id"]) == 2


def test_nothing_is_seen_before_the_upload_is_complete(live: Live) -> None:
    """Neither a list nor the file's own id shows what is still coming in, and it cannot be attached."""
    upload_id = begin(live, 3)
    add(live, upload_id, b"abc")
    file_id = file_of(live, upload_id)

    assert file_id not in [file["id"] for file in live.client.get("/v1/files").json()["data"]]
    assert live.client.get(f"/v1/files/{file_id}").status_code == 404
    store = live.create("unseen")
    assert live.client.post(f"/v1/vector_stores/{store}/files", json={"file_id": file_id}).status_code == 404


def test_upload_object_is_openais(live: Live) -> None:
    """The object says what was announced, and that it is kept for an hour; a part says which upload it is of."""
    expires_after = {"anchor": "created_at", "seconds": 7200}
    body = {"filename": "a.txt", "purpose": "vision", "bytes": 2, "mime_type": "image/png", "expires_after": expires_after}

    made = live.client.post("/v1/uploads", json=body).json()
    part = add(live, made["id"], b"ab").json()
    done = complete(live, made["id"], [part["id"]]).json()

    assert made == {
        "id": made["id"],
        "object": "upload",
        "created_at": made["created_at"],
        "filename": "a.txt",
        "bytes": 2,
        "purpose": "vision",
        "status": "pending",
        "expires_at": made["created_at"] + 3600,
        "file": None,
    }
    assert (part["object"], part["upload_id"]) == ("upload.part", made["id"])
    assert done["file"]["expires_at"] == done["file"]["created_at"] + 7200


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"bytes": 0}, "bytes"),
        ({"bytes": "7"}, "bytes"),
        ({"bytes": MAX_FILE_BYTES + 1}, "bytes"),
        ({"filename": ""}, "filename"),
        ({"filename": "a\0b"}, "filename"),
        ({"purpose": "nonsense"}, "purpose"),
        ({"mime_type": "text"}, "mime_type"),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, "expires_after.seconds"),
        ({"size": 3}, "size"),
    ],
)
def test_faulty_announcement_names_the_field(live: Live, fields: dict, param: str) -> None:
    """What cannot be taken is refused before a part is sent."""
    body = {"filename": "a", "purpose": "assistants", "bytes": 3, "mime_type": "text/plain", **fields}

    response = live.client.post("/v1/uploads", json=body)

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_limit_is_told_beside_openais(live: Live) -> None:
    """OpenAI takes 8 GB in parts; the message says that this server does not."""
    body = {"filename": "a", "purpose": "assistants", "bytes": 8 * 10**9, "mime_type": "text/plain"}

    message = live.client.post("/v1/uploads", json=body).json()["error"]["message"]

    assert re.search(r"512 MiB.*8 GB", message)


def test_faulty_completion_changes_nothing(live: Live) -> None:
    """A wrong sum, missing bytes, a part twice or of another upload: each is refused by name, and the right call works."""
    other = begin(live, 3)
    foreign = add(live, other, b"xyz").json()["id"]
    upload_id = begin(live, 6)
    first, second = (add(live, upload_id, data).json()["id"] for data in (b"abc", b"def"))
    wrong = {
        "part_ids": [[first], [first, first], [first, foreign], [first, "part_none"], []],
        "md5": [hashlib.md5(b"defabc").hexdigest(), "short"],
    }

    refused = [(complete(live, upload_id, ids), "part_ids") for ids in wrong["part_ids"]]
    refused += [(complete(live, upload_id, [first, second], md5=md5), "md5") for md5 in wrong["md5"]]
    done = complete(live, upload_id, [first, second], md5=hashlib.md5(b"abcdef").hexdigest().upper())

    for response, param in refused:
        assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert done.json()["status"] == "completed"


@pytest.mark.parametrize("how", ["cancel", "complete", "expire"])
def test_upload_that_is_over_takes_nothing_more(live: Live, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Cancelled, completed or an hour old: no part, no completion and no cancelling, and the message says what it is."""
    upload_id = begin(live, 3)
    part_id = add(live, upload_id, b"abc").json()["id"]
    if how == "cancel":
        assert live.client.post(f"/v1/uploads/{upload_id}/cancel").json()["status"] == "cancelled"
    elif how == "complete":
        assert complete(live, upload_id, [part_id]).status_code == 200
    else:
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 3601)

    responses = [
        add(live, upload_id, b"abc"),
        complete(live, upload_id, [part_id]),
        live.client.post(f"/v1/uploads/{upload_id}/cancel"),
    ]

    state = {"cancel": "cancelled", "complete": "completed", "expire": "expired"}[how]
    for response in responses:
        assert response.status_code == 400
        assert state in response.json()["error"]["message"]


def test_bytes_of_uploads_that_came_to_nothing_are_removed(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled upload's parts go at once; those of one that nobody completed once its hour is over."""
    cancelled, forgotten = begin(live, 3), begin(live, 3)
    for upload_id in (cancelled, forgotten):
        add(live, upload_id, b"abc")
    files = [file_of(live, upload_id) for upload_id in (cancelled, forgotten)]

    live.client.post(f"/v1/uploads/{cancelled}/cancel")
    live.services.tidy()
    after_cancel = [num_pieces(live, file_id) for file_id in files]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3601)
    live.services.tidy()
    after_hour = [num_pieces(live, file_id) for file_id in files]
    monkeypatch.setattr(time, "time", lambda: now + 2 * 86400)
    live.services.tidy()

    assert (after_cancel, after_hour) == ([0, 1], [0, 0])
    assert add(live, forgotten, b"abc").status_code == 404


def test_more_bytes_than_twice_the_announced_are_refused(live: Live) -> None:
    """Parts may be sent again, and nobody fills the disk by it."""
    upload_id = begin(live, 4)

    statuses = [add(live, upload_id, b"abcd").status_code for _ in range(3)]

    assert statuses == [200, 200, 400]


@pytest.mark.parametrize(
    "form",
    [{"files": {"file": ("a", b"x")}}, {"data": {"data": "text"}}, {"json": {"data": "x"}}, {"files": {"data": ("a", b"")}}],
)
def test_part_without_bytes_is_refused(live: Live, form: dict) -> None:
    """A form without the field, with text in it, or with an empty part is 400 with the field's name."""
    upload_id = begin(live, 3)

    response = live.client.post(f"/v1/uploads/{upload_id}/parts", **form)

    assert (response.status_code, response.json()["error"]["param"]) == (400, "data")


def test_too_large_part_is_refused(live: Live) -> None:
    """A part of more than 64 MiB is 413."""
    upload_id = begin(live, MAX_FILE_BYTES)

    assert add(live, upload_id, bytes(MAX_PART_BYTES + 1)).status_code == 413


def test_uploads_belong_to_those_who_began_them(live: Live) -> None:
    """For another tenant, and for a key with other principals, an upload is not there; its file is read by its own only."""
    red, blue = live.as_key(live.make_key("t", ["red"])), live.as_key(live.make_key("t", ["blue"]))
    full, foreign = live.as_key(live.make_key("t")), live.as_key(live.make_key("u"))
    upload_id = begin(live, 3, red)
    part_id = add(live, upload_id, b"abc", full).json()["id"]

    for client in (blue, foreign, live.client):
        assert add(live, upload_id, b"abc", client).status_code == 404
        for path, body in (("complete", {"part_ids": [part_id]}), ("cancel", {})):
            assert client.post(f"/v1/uploads/{upload_id}/{path}", json=body).status_code == 404
    done = red.post(f"/v1/uploads/{upload_id}/complete", json={"part_ids": [part_id]}).json()

    shown = [client.get(f"/v1/files/{done['file']['id']}").status_code for client in (red, full, blue, foreign)]
    assert shown == [200, 200, 404, 404]
