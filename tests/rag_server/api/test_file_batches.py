"""File batches over HTTP: files that are put into a vector store together."""

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from rag_server.protocols import Embedder
from tests.live import Live, live_server

TEXT = "Cats sleep for sixteen hours."


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """One server for the module, open to everyone, with or without a key; uploads are indexed when a test says so."""
    with live_server(tmp_path_factory.mktemp("batches"), embedder, auth={"required": False}) as server:
        yield server


@pytest.fixture
def vector_store(live: Live, request: pytest.FixtureRequest) -> str:
    return live.create(request.node.name.replace("/", ""))


def batch_path(vector_store: str, *parts: str) -> str:
    return "/".join((f"/v1/vector_stores/{vector_store}/file_batches", *parts))


def create(live: Live, vector_store: str, client: httpx.Client | None = None, **body: Any) -> dict[str, Any]:
    response = (client or live.client).post(batch_path(vector_store), json=body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def counts(**states: int) -> dict[str, int]:
    found = {"in_progress": 0, "completed": 0, "failed": 0, "cancelled": 0, **states}
    return {**found, "total": sum(found.values())}


def test_official_client_walks_a_batch(live: Live, vector_store: str) -> None:
    """OpenAI's client creates a batch with shared attributes, sees it done, and lists its files and no others."""
    ids = [live.upload(f"{n}.md", TEXT) for n in range(3)]
    live.attach(vector_store, live.upload("other.md", TEXT))
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as client:
        made = client.vector_stores.file_batches.create(vector_store, file_ids=ids, attributes={"year": 2024})
        live.index_waiting()
        done = client.vector_stores.file_batches.retrieve(made.id, vector_store_id=vector_store)
        listed = list(client.vector_stores.file_batches.list_files(made.id, vector_store_id=vector_store, limit=2))

    assert (made.status, made.file_counts.to_dict()) == ("in_progress", counts(in_progress=3))
    assert (done.status, done.file_counts.to_dict()) == ("completed", counts(completed=3))
    assert (made.object, made.vector_store_id) == ("vector_store.files_batch", vector_store)
    assert [file.id for file in listed] == ids[::-1]
    assert all(file.attributes == {"year": 2024} for file in listed)
    assert live.found(vector_store, "sleep", filters={"type": "eq", "key": "year", "value": 2024}) == ["0.md", "1.md", "2.md"]


def test_files_with_their_own_attributes_ignore_the_common_ones(live: Live, vector_store: str) -> None:
    """Beside `files` the batch's own attributes and chunking count for nothing, as in OpenAI's API."""
    first, second = live.upload("a.md", TEXT), live.upload("b.md", TEXT)
    static = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 10}}

    create(
        live,
        vector_store,
        files=[{"file_id": first, "attributes": {"n": 1}, "chunking_strategy": static}, {"file_id": second}],
        attributes={"n": 3},
    )

    shown = [live.file(vector_store, file_id) for file_id in (first, second)]
    assert [file["attributes"] for file in shown] == [{"n": 1}, {}]
    assert [file["chunking_strategy"] for file in shown] == [static, {"type": "other"}]


def test_counts_follow_the_files(live: Live, vector_store: str) -> None:
    """A file that fails, is cancelled, deleted or attached again is counted so; a batch of failures has failed."""
    good, bad, stopped, gone = (
        live.upload(*file) for file in (("a.md", TEXT), ("b.pdf", "%PDF-1.7"), ("c.md", TEXT), ("d.md", TEXT))
    )
    batch = create(live, vector_store, file_ids=[good, bad, stopped, gone])["id"]
    failing = create(live, vector_store, file_ids=[bad])["id"]
    live.client.post(f"/v1/vector_stores/{vector_store}/files/{stopped}/cancel")
    live.client.delete(f"/v1/vector_stores/{vector_store}/files/{gone}")
    live.index_waiting()

    after = live.client.get(batch_path(vector_store, batch)).json()
    failed = live.client.get(batch_path(vector_store, failing)).json()
    live.attach(vector_store, stopped)
    again = live.client.get(batch_path(vector_store, batch)).json()
    live.index_waiting()

    assert (after["status"], after["file_counts"]) == ("completed", counts(completed=1, failed=1, cancelled=1))
    assert (failed["status"], failed["file_counts"]) == ("failed", counts(failed=1))
    assert (again["status"], again["file_counts"]["in_progress"]) == ("in_progress", 1)
    listed = live.client.get(batch_path(vector_store, batch, "files"), params={"filter": "failed"}).json()["data"]
    assert [file["id"] for file in listed] == [bad]


def test_cancelled_batch_leaves_what_is_done(live: Live, vector_store: str) -> None:
    """Cancelling stops what waits, of this batch only, and keeps what is indexed."""
    done, waiting, other = (live.upload(name, TEXT) for name in ("a.md", "b.md", "c.md"))
    live.attach(vector_store, done)
    live.index_waiting()
    made = create(live, vector_store, file_ids=[waiting])
    live.attach(vector_store, other)

    cancelled = live.client.post(batch_path(vector_store, made["id"], "cancel")).json()
    again = live.client.post(batch_path(vector_store, made["id"], "cancel")).json()
    live.index_waiting()

    assert (cancelled["status"], cancelled["file_counts"]) == ("cancelled", counts(cancelled=1))
    assert again == cancelled
    assert live.found(vector_store, "sleep") == ["a.md", "c.md"]


def test_batch_is_all_or_nothing(live: Live, vector_store: str) -> None:
    """One id that is not there, or one attribute that cannot be stored, and no file is queued."""
    good = live.upload("a.md", TEXT)
    unknown = live.client.post(batch_path(vector_store), json={"file_ids": [good, "file-none"]})
    faulty = live.client.post(
        batch_path(vector_store), json={"files": [{"file_id": good}, {"file_id": good, "attributes": {"a": [1]}}]}
    )

    assert (unknown.status_code, "file-none" in unknown.text) == (404, True)
    error = faulty.json()["error"]
    assert (faulty.status_code, error["code"], error["param"]) == (400, "invalid_attribute", "files.1.attributes")
    assert live.client.get(f"/v1/vector_stores/{vector_store}/files").json()["data"] == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, None),
        ({"file_ids": ["a"], "files": [{"file_id": "a"}]}, None),
        ({"file_ids": []}, "file_ids"),
        ({"file_ids": ["a"] * 2001}, "file_ids"),
        ({"files": []}, "files"),
        ({"files": [{"file": "a"}]}, "files.0.file_id"),
        ({"file_ids": ["a\0"]}, "file_ids.0"),
        ({"file_ids": ["a"], "attributes": {str(n): n for n in range(17)}}, "attributes"),
        ({"file_ids": ["a"], "chunking_strategy": {"type": "static"}}, "chunking_strategy"),
    ],
)
def test_faulty_batch_names_the_field(live: Live, vector_store: str, body: dict, param: str | None) -> None:
    """What is not a batch is refused with the name of the field."""
    body = {**body, **({"file_ids": [live.upload("a.md", TEXT)]} if body.get("file_ids") == ["a"] else {})}

    response = live.client.post(batch_path(vector_store), json=body)

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_large_batch_is_paged_and_counted(live: Live, vector_store: str) -> None:
    """Every file of a batch of many comes once, in pages forwards and backwards."""
    ids = [live.upload(f"{n}.md", TEXT) for n in range(30)]
    batch = create(live, vector_store, file_ids=[*ids, *ids])
    path = batch_path(vector_store, batch["id"], "files")

    first = live.client.get(path, params={"limit": 20, "order": "asc"}).json()
    second = live.client.get(path, params={"limit": 20, "order": "asc", "after": first["last_id"]}).json()
    back = live.client.get(path, params={"limit": 20, "order": "asc", "before": second["first_id"]}).json()
    live.client.post(batch_path(vector_store, batch["id"], "cancel"))

    assert batch["file_counts"] == counts(in_progress=30)
    assert [file["id"] for file in first["data"] + second["data"]] == ids
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert back == {**first, "has_more": False}


def test_batches_belong_to_those_who_made_them(live: Live) -> None:
    """A batch is not there for another tenant, another key's principals, nor under another vector store."""
    full, red, blue = (live.as_key(live.make_key("t", principals)) for principals in (None, ["red"], ["blue"]))
    foreign = live.as_key(live.make_key("u"))
    store, other = live.create("shared", full), live.create("other", full)
    own = live.create("shared", foreign)
    batch = create(live, store, red, file_ids=[live.upload("a.md", TEXT, red)])["id"]

    for method, parts in (("GET", ()), ("GET", ("files",)), ("POST", ("cancel",))):
        assert blue.request(method, batch_path(store, batch, *parts)).status_code == 404
        assert foreign.request(method, batch_path(own, batch, *parts)).status_code == 404
        assert full.request(method, batch_path(other, batch, *parts)).status_code == 404
    assert full.get(batch_path(store, batch)).json()["file_counts"] == counts(in_progress=1)
    live.index_waiting()
    assert live.found(store, "sleep", blue) == []
    assert live.found(store, "sleep", red) == ["a.md"]
