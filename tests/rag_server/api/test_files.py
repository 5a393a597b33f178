"""Uploaded files over HTTP."""

import re
import socket
import time
from collections.abc import Iterator

import openai
import pytest
from sqlalchemy import func, select

from rag_server.api import bodies
from rag_server.api.schemas_stores import MAX_FILE_BYTES
from rag_server.protocols import Embedder
from rag_server.store import schema
from tests.live import Live, live_server


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """One server for the module, open to everyone, with or without a key; nothing is indexed unless a test says so."""
    with live_server(tmp_path_factory.mktemp("files"), embedder, auth={"required": False}) as server:
        yield server


@pytest.fixture
def client(live: Live) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_official_client_uploads_reads_lists_and_deletes(client: openai.OpenAI) -> None:
    """What OpenAI's client uploads comes back byte by byte, is listed, and is gone once it is deleted."""
    content = bytes(range(256)) * 40

    made = client.files.create(file=("räksmörgås.bin", content), purpose="assistants")
    got = client.files.retrieve(made.id)
    read = client.files.content(made.id).read()
    listed = [file.id for file in client.files.list()]
    deleted = client.files.delete(made.id)

    assert (made.filename, made.bytes, made.purpose, made.status) == ("räksmörgås.bin", 10240, "assistants", "processed")
    assert got == made
    assert read == content
    assert made.id in listed
    assert deleted.deleted
    assert made.id not in [file.id for file in client.files.list()]
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(made.id)
    with pytest.raises(openai.NotFoundError):
        client.files.content(made.id)


def test_file_of_several_parts_comes_back_whole(live: Live) -> None:
    """A file larger than one stored part is put together again in order."""
    content = b"".join(number.to_bytes(4, "big") for number in range(2_300_000))

    file_id = live.upload("large.bin", content)

    assert live.client.get(f"/v1/files/{file_id}/content").content == content


def test_empty_file_is_a_file(live: Live) -> None:
    """A file without a byte can be stored and read."""
    file_id = live.upload("empty.txt", b"")

    assert live.client.get(f"/v1/files/{file_id}").json()["bytes"] == 0
    assert live.client.get(f"/v1/files/{file_id}/content").content == b""


def test_content_is_never_a_page_of_this_server(live: Live) -> None:
    """An uploaded page is handed out as bytes that a browser neither shows nor guesses about."""
    file_id = live.upload("page.html", "<script>alert(1)</script>")

    headers = live.client.get(f"/v1/files/{file_id}/content").headers

    assert headers["content-type"] == "application/octet-stream"
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"files": {"file": ("a.txt", b"x")}, "data": {"purpose": "nonsense"}}, "purpose"),
        ({"files": {"file": ("a.txt", b"x")}}, "purpose"),
        ({"files": {"document": ("a.txt", b"x")}, "data": {"purpose": "assistants"}}, "file"),
        ({"data": {"purpose": "assistants", "file": "text"}}, "file"),
        ({"json": {"purpose": "assistants"}}, "file"),
        ({"content": b""}, "file"),
    ],
)
def test_faulty_upload_names_the_field(live: Live, form: dict, param: str) -> None:
    """An upload without a file or without a known purpose is refused with the field's name, and nothing is stored."""
    before = live.client.get("/v1/files").json()["data"]

    response = live.client.post("/v1/files", **form)

    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert live.client.get("/v1/files").json()["data"] == before


def test_too_large_upload_is_refused_before_it_is_read(live: Live) -> None:
    """A length above the limit is 413 before a byte of the body has come."""
    head = f"POST /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {MAX_FILE_BYTES + bodies.FORM_BYTES + 1}\r\n"
    head += "Content-Type: multipart/form-data; boundary=x\r\n\r\n"

    with socket.create_connection((live.client.base_url.host, live.client.base_url.port), timeout=10) as connection:
        connection.sendall(head.encode())
        answer = connection.recv(65536)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"payload_too_large" in answer


def test_upload_that_announces_no_length_is_limited_too(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body in chunks is broken off with 413 where it becomes too large, and nothing of it is kept."""
    monkeypatch.setattr(bodies, "UPLOADS", ((re.compile("/v1/files"), 1024**2),))
    before = live.client.get("/v1/files").json()["data"]
    head = b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
    head += b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'

    response = live.client.post(
        "/v1/files",
        content=iter([head, *[bytes(65536)] * 32, b"\r\n--x--\r\n"]),
        headers={"content-type": "multipart/form-data; boundary=x"},
    )

    assert response.status_code == 413
    assert live.client.get("/v1/files").json()["data"] == before


def test_deleted_upload_is_gone_from_vector_stores(live: Live) -> None:
    """An upload that is deleted is searched no more, waits no more, and can be attached no more."""
    store, other = live.create("holding"), live.create("waiting")
    file_id = live.upload("cats.md", "Cats sleep for sixteen hours.")
    live.attach(store, file_id)
    live.index_waiting()
    live.attach(other, file_id)
    before = live.found(store, "sleep")

    deleted = live.client.delete(f"/v1/files/{file_id}")
    live.index_waiting()

    assert before == ["cats.md"]
    assert deleted.json() == {"id": file_id, "object": "file", "deleted": True}
    assert live.found(store, "sleep") == []
    for vector_store in (store, other):
        assert live.client.get(f"/v1/vector_stores/{vector_store}/files").json()["data"] == []
    assert live.client.post(f"/v1/vector_stores/{store}/files", json={"file_id": file_id}).status_code == 404


def test_upload_that_is_open_to_others_is_not_deleted_by_a_limited_key(live: Live) -> None:
    """A key that is limited to some documents cannot take away what everyone reads; nothing is deleted then."""
    red, full = live.as_key(live.make_key("t", ["red"])), live.as_key(live.make_key("t"))
    store = live.create("shared", full)
    file_id = live.upload("cats.md", "Cats sleep for sixteen hours.", red)
    live.attach(store, file_id, full)
    live.index_waiting()

    refused = red.delete(f"/v1/files/{file_id}")

    assert refused.status_code == 403
    assert red.get(f"/v1/files/{file_id}/content").content == b"Cats sleep for sixteen hours."
    assert live.found(store, "sleep", full) == ["cats.md"]


def test_list_is_paged_and_filtered_by_purpose(live: Live) -> None:
    """Every file comes once, the newest first, in pages of the size that was asked for; a purpose lists its own."""
    client = live.as_key(live.make_key("paged"))
    made = [
        client.post("/v1/files", files={"file": (f"{n}", b"x")}, data={"purpose": p}).json()
        for n, p in enumerate(("batch", "evals", "batch"))
    ]
    ids = [file["id"] for file in made]

    first = client.get("/v1/files", params={"limit": 2}).json()
    second = client.get("/v1/files", params={"limit": 2, "after": first["last_id"]}).json()
    oldest = client.get("/v1/files", params={"order": "asc", "purpose": "batch"}).json()

    assert [file["id"] for file in first["data"]] == ids[:0:-1]
    assert (first["first_id"], first["last_id"], first["has_more"]) == (ids[2], ids[1], True)
    assert ([file["id"] for file in second["data"]], second["has_more"]) == ([ids[0]], False)
    assert [file["id"] for file in oldest["data"]] == [ids[0], ids[2]]
    assert client.get("/v1/files", params={"purpose": "vision"}).json()["data"] == []


@pytest.mark.parametrize(
    ("query", "param"),
    [({"limit": 0}, "limit"), ({"limit": 10_001}, "limit"), ({"order": "up"}, "order"), ({"after": "file-none"}, "after")],
)
def test_faulty_page_names_the_field(live: Live, query: dict, param: str) -> None:
    """A limit out of bounds, an unknown order and a place that is not there are refused."""
    response = live.client.get("/v1/files", params=query)

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_expired_file_is_gone_at_once_and_cleared_away_later(
    live: Live, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its last second on a file is not found, and the next tidying takes it out of its vector stores."""
    expires_after = {"anchor": "created_at", "seconds": 3600}
    file = client.files.create(file=("cats.md", b"Cats sleep long."), purpose="assistants", expires_after=expires_after)
    store = live.create("expiring")
    live.attach(store, file.id)
    live.index_waiting()
    now = time.time()

    monkeypatch.setattr(time, "time", lambda: now + 3590)
    there = live.client.get(f"/v1/files/{file.id}").status_code
    monkeypatch.setattr(time, "time", lambda: now + 3601)
    gone = [live.client.get(f"/v1/files/{file.id}{path}").status_code for path in ("", "/content")]
    listed = [listed["id"] for listed in live.client.get("/v1/files").json()["data"]]
    live.services.tidy()

    assert file.expires_at == file.created_at + 3600
    assert (there, gone) == (200, [404, 404])
    assert file.id not in listed
    assert live.found(store, "sleep") == []
    with live.services.store.database.read() as connection:
        kept = select(func.count()).where(schema.upload_parts.c.upload_id == file.id)
        assert connection.execute(kept).scalar_one() == 0


def test_only_files_for_batches_expire_by_themselves(live: Live) -> None:
    """A file for a batch is kept for thirty days, every other one until it is deleted, and its object then says nothing."""
    batch = live.client.post("/v1/files", files={"file": ("a", b"x")}, data={"purpose": "batch"}).json()
    other = live.client.post("/v1/files", files={"file": ("a", b"x")}, data={"purpose": "assistants"}).json()

    assert batch["expires_at"] - batch["created_at"] == 30 * 86400
    assert "expires_at" not in other


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"anchor": "created_at", "seconds": "3599"}, "expires_after.seconds"),
        ({"anchor": "created_at", "seconds": "2592001"}, "expires_after.seconds"),
        ({"anchor": "created_at", "seconds": "soon"}, "expires_after.seconds"),
        ({"anchor": "created_at"}, "expires_after.seconds"),
        ({"seconds": "3600"}, "expires_after.anchor"),
        ({"anchor": "last_active_at", "seconds": "3600"}, "expires_after.anchor"),
    ],
)
def test_faulty_expiry_names_the_field(live: Live, fields: dict, param: str) -> None:
    """An expiry out of OpenAI's bounds is refused, and nothing is stored."""
    before = live.client.get("/v1/files").json()["data"]
    data = {"purpose": "assistants", **{f"expires_after[{name}]": value for name, value in fields.items()}}

    response = live.client.post("/v1/files", files={"file": ("a.txt", b"x")}, data=data)

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert live.client.get("/v1/files").json()["data"] == before


@pytest.mark.parametrize("name", ["a\0b.txt", "x" * 1025])
def test_name_that_cannot_be_stored_is_refused(live: Live, name: str) -> None:
    """A NUL character and a name without end are 400, whatever the database."""
    form = '--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
    form += f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\nx\r\n--x--\r\n'

    response = live.client.post("/v1/files", content=form.encode(), headers={"content-type": "multipart/form-data; boundary=x"})

    assert (response.status_code, response.json()["error"]["param"]) == (400, "file")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_unknown_file_is_404(live: Live, method: str) -> None:
    """A file that does not exist is not found, whatever is done with it."""
    response = live.client.request(method, "/v1/files/file-none")

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"
