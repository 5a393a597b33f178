"""Uploaded files over HTTP."""

import socket
from collections.abc import Iterator

import openai
import pytest

from rag_server.api.routes import files
from rag_server.api.routes.files import MAX_BYTES
from rag_server.protocols import Embedder
from tests.live import Live, live_server


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """One server for the module, open to everyone; nothing is indexed unless a test says so."""
    with live_server(tmp_path_factory.mktemp("files"), embedder) as server:
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
    head = f"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: {MAX_BYTES + 1}\r\n"
    head += "Content-Type: multipart/form-data; boundary=x\r\n\r\n"

    with socket.create_connection((live.client.base_url.host, live.client.base_url.port), timeout=10) as connection:
        connection.sendall(head.encode())
        answer = connection.recv(65536)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"payload_too_large" in answer


def test_upload_that_announces_no_length_is_limited_too(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body in chunks is broken off with 413 where it becomes too large, and nothing of it is kept."""
    monkeypatch.setattr(files, "MAX_BYTES", 1024**2)
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


def test_attached_upload_cannot_be_deleted(live: Live) -> None:
    """An upload that a vector store holds is kept; taken out there it can be deleted."""
    vector_store = live.create("holding")
    file_id = live.upload("cats.md", "# Cats")
    live.attach(vector_store, file_id)

    refused = live.client.delete(f"/v1/files/{file_id}")
    live.client.delete(f"/v1/vector_stores/{vector_store}/files/{file_id}")
    deleted = live.client.delete(f"/v1/files/{file_id}")

    assert refused.status_code == 400
    assert vector_store in refused.json()["error"]["message"]
    assert deleted.json() == {"id": file_id, "object": "file", "deleted": True}


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_unknown_file_is_404(live: Live, method: str) -> None:
    """A file that does not exist is not found, whatever is done with it."""
    response = live.client.request(method, "/v1/files/file-none")

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"
