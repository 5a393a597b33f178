"""The files of a vector store over HTTP: attached, indexed in the background, searched, changed, cancelled, deleted."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import psutil
import pytest
from sqlalchemy import func, select, update

from rag_server import factory
from rag_server.commands.indexing import building_ingest
from rag_server.jobs.worker import index_uploads
from rag_server.protocols import Embedder
from rag_server.store import schema
from rag_server.store.files import MAX_ATTEMPTS
from tests.live import Live, live_server

CATS = "# Cats\n\nCats sleep for sixteen hours a day."


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """One server for the module whose uploads are indexed when a test says so."""
    with live_server(tmp_path_factory.mktemp("files"), embedder, auth={"required": False}) as server:
        yield server


@pytest.fixture
def vector_store(live: Live, request: pytest.FixtureRequest) -> str:
    """A vector store of the test's own."""
    return live.create(request.node.name.replace("/", ""))


@pytest.fixture(scope="module")
def working(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """A server with a worker process of its own."""
    with live_server(tmp_path_factory.mktemp("working"), embedder, with_worker=True) as server:
        yield server


def wait_for(condition: Callable[[], bool], timeout_s: float = 120.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def counted(live: Live, *conditions: Any) -> int:
    """The number of chunks in the truth store."""
    query = select(func.count()).select_from(schema.chunks.join(schema.documents)).where(*conditions)
    with live.services.store.database.read() as connection:
        return int(connection.execute(query).scalar_one())


def test_official_client_attaches_polls_and_searches(working: Live) -> None:
    """OpenAI's client uploads, attaches with attributes and a chunking, polls until the worker is done, and finds it."""
    chunking = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 20}}
    with openai.OpenAI(base_url=f"{working.url}/v1", api_key="none", max_retries=0) as client:
        store = client.vector_stores.create(name="polled")
        done = client.vector_stores.files.upload_and_poll(
            vector_store_id=store.id,
            file=("cats.md", CATS.encode()),
            attributes={"animal": "cat", "legs": 4, "tame": True},
            chunking_strategy=chunking,
            poll_interval_ms=100,
        )
        found = client.vector_stores.search(store.id, query="sleep", filters={"type": "eq", "key": "legs", "value": 4}).data
        listed = client.vector_stores.files.list(store.id).data

    assert (done.status, done.last_error, done.usage_bytes) == ("completed", None, len(CATS))
    assert done.attributes == {"animal": "cat", "legs": 4, "tame": True}
    assert done.chunking_strategy.model_dump() == chunking
    assert [result.file_id for result in found] == [done.id]
    assert found[0].attributes == {**done.attributes, "document_id": "cats.md"}
    assert listed == [done]


def test_killed_worker_is_replaced_and_nothing_is_stored_twice(working: Live) -> None:
    """`kill -9` in the middle of a file: another process takes it up where it was, and every row is there once."""
    num_rows = 800
    rows = "".join(json.dumps({"_id": f"r{n}", "text": f"Row {n} of the ledger."}) + "\n" for n in range(num_rows))
    vector_store = working.create("ledger")
    file_id = working.upload("ledger.jsonl", rows)
    stored_here = schema.chunks.c.vector_store_id == vector_store
    working.attach(vector_store, file_id)

    wait_for(lambda: counted(working, stored_here) > 0)
    killed = [child for child in psutil.Process(working.services.worker._child.pid).children() if "worker" in child.cmdline()]
    for child in killed:
        child.kill()
    in_the_middle = counted(working, stored_here)
    with working.services.store.database.write() as connection:
        # As if its lease had run out.
        connection.execute(update(schema.files).where(schema.files.c.id == file_id).values(lease_until=0.0))
    wait_for(lambda: working.file(vector_store, file_id)["status"] != "in_progress")

    with working.services.store.database.read() as connection:
        attempts = connection.execute(select(schema.files.c.attempts).where(schema.files.c.id == file_id)).scalar_one()
    assert len(killed) == 1
    assert 0 < in_the_middle < num_rows
    assert working.file(vector_store, file_id)["status"] == "completed"
    assert attempts == 2
    assert counted(working, stored_here) == num_rows
    assert sorted(result["attributes"]["document_id"] for result in working.search(vector_store, "r7 ledger 799")[:1]) == [
        "r799"
    ]


def test_attributes_are_searched_at_once_when_they_change(live: Live, vector_store: str) -> None:
    """New attributes replace the old ones in the next search, without indexing again."""
    file_id = live.upload("cats.md", CATS)
    live.attach(vector_store, file_id, attributes={"year": 1999, "place": "Oslo"})
    live.index_waiting()
    old = {"type": "eq", "key": "year", "value": 1999}
    new = {"type": "gt", "key": "year", "value": 2000}
    before = [live.found(vector_store, "sleep", filters=filters) for filters in (old, new)]

    changed = live.client.post(f"/v1/vector_stores/{vector_store}/files/{file_id}", json={"attributes": {"year": 2024}}).json()

    assert before == [["cats.md"], []]
    assert [live.found(vector_store, "sleep", filters=filters) for filters in (old, new)] == [[], ["cats.md"]]
    assert changed["attributes"] == {"year": 2024}
    assert changed["status"] == "completed"
    assert live.search(vector_store, "sleep")[0]["attributes"] == {"year": 2024, "document_id": "cats.md"}


def test_static_chunking_decides_the_passages(live: Live, vector_store: str) -> None:
    """The same text is cut into more passages when they must be shorter."""
    text = "".join(f"In the year {year} the cats slept well. " for year in range(1900, 1960))
    files = {}
    for size in (100, 200):
        static = {"max_chunk_size_tokens": size, "chunk_overlap_tokens": 0}
        files[size] = live.upload(f"{size}.txt", text)
        live.attach(vector_store, files[size], chunking_strategy={"type": "static", "static": static})
    live.index_waiting()

    numbers = {}
    for size, file_id in files.items():
        filters = {"type": "eq", "key": "file_id", "value": file_id}
        numbers[size] = len(live.search(vector_store, "cats", max_num_results=50, filters=filters))

    assert numbers[200] > 1
    assert numbers[100] >= 2 * numbers[200] - 1


def test_cancelled_file_is_not_indexed_until_it_is_attached_again(live: Live, vector_store: str) -> None:
    """A queued file that is cancelled stays so; attached once more it is indexed."""
    file_id = live.upload("cats.md", CATS)
    queued = live.attach(vector_store, file_id)
    cancelled = live.client.post(f"/v1/vector_stores/{vector_store}/files/{file_id}/cancel").json()
    live.index_waiting()
    after = live.file(vector_store, file_id)
    nothing = live.found(vector_store, "sleep")

    again = live.attach(vector_store, file_id)
    live.index_waiting()

    assert (queued["status"], queued["rag"]["is_queued"]) == ("in_progress", True)
    assert (cancelled["status"], after["status"], nothing) == ("cancelled", "cancelled", [])
    assert again["status"] == "in_progress"
    assert live.file(vector_store, file_id)["status"] == "completed"
    assert live.found(vector_store, "sleep") == ["cats.md"]


@pytest.mark.parametrize(("method", "path"), [("POST", "/cancel"), ("DELETE", "")])
def test_file_that_is_cancelled_or_deleted_while_indexed_is_left_alone(
    live: Live, vector_store: str, embedder: Embedder, method: str, path: str
) -> None:
    """What a worker has begun is given up at its next step, and it stores nothing more of it."""
    file_id = live.upload("cats.md", CATS)
    live.attach(vector_store, file_id)
    leased = live.services.store.files.lease()

    live.client.request(method, f"/v1/vector_stores/{vector_store}/files/{file_id}{path}")
    with building_ingest(live.settings, live.services.store) as ingest:
        index_uploads(live.services.store, leased, lambda _: embedder, ingest)

    listed = live.client.get(f"/v1/vector_stores/{vector_store}/files").json()["data"]
    assert [file["status"] for file in listed] == (["cancelled"] if path else [])
    assert live.found(vector_store, "sleep") == []


def test_finished_file_is_not_cancelled(live: Live, vector_store: str) -> None:
    """Cancelling what is indexed already changes nothing."""
    file_id = live.upload("cats.md", CATS)
    live.attach(vector_store, file_id)
    live.index_waiting()

    cancelled = live.client.post(f"/v1/vector_stores/{vector_store}/files/{file_id}/cancel").json()

    assert cancelled["status"] == "completed"


@pytest.mark.parametrize(("name", "content"), [("broken.pdf", b"%PDF-1.7 nothing"), ("picture.png", b"\x89PNG\r\n\x1a\n" * 40)])
def test_failed_file_shows_its_reason(live: Live, vector_store: str, name: str, content: bytes) -> None:
    """A file that cannot be read is failed with a reason that names it and no path, and is tried again when attached again."""
    file_id = live.upload(name, content)
    live.attach(vector_store, file_id)
    live.index_waiting()
    failed = live.file(vector_store, file_id)
    again = live.attach(vector_store, file_id)
    counts = live.client.get(f"/v1/vector_stores/{vector_store}").json()["file_counts"]
    live.index_waiting()

    assert failed["status"] == "failed"
    assert name in failed["last_error"]["message"]
    assert "Traceback" not in failed["last_error"]["message"]
    assert "rag-upload-" not in failed["last_error"]["message"]
    assert (again["status"], again["last_error"]) == ("in_progress", None)
    assert (counts["in_progress"], counts["failed"]) == (1, 0)
    assert live.file(vector_store, file_id)["status"] == "failed"


def test_faulty_row_is_named_and_the_others_are_found(live: Live, vector_store: str) -> None:
    """A file with a faulty row is indexed but for that row, and says which."""
    file_id = live.upload("rows.jsonl", '{"_id": "a", "text": "Cats sleep."}\n{nonsense\n{"_id": "b", "text": "Cats purr."}\n')
    live.attach(vector_store, file_id)
    live.index_waiting()

    file = live.file(vector_store, file_id)
    assert file["status"] == "completed"
    assert "2" in file["last_error"]["message"]
    assert len(live.search(vector_store, "cats")) == 2


def test_file_that_kills_every_worker_is_given_up(live: Live, vector_store: str) -> None:
    """After so many processes have died over a file it is failed, and the files behind it have their turn."""
    fatal = live.upload("fatal.md", CATS)
    live.attach(vector_store, fatal)
    for _ in range(MAX_ATTEMPTS):
        assert live.services.store.files.lease().id == fatal
        with live.services.store.database.write() as connection:
            connection.execute(update(schema.files).where(schema.files.c.id == fatal).values(lease_until=0.0))
    good = live.upload("good.md", CATS)
    live.attach(vector_store, good)

    assert live.services.store.files.lease() is None
    live.index_waiting()

    file = live.file(vector_store, fatal)
    assert file["status"] == "failed"
    assert f"died {MAX_ATTEMPTS} times" in file["last_error"]["message"]
    assert live.found(vector_store, "sleep") == ["good.md"]


def test_taken_over_file_is_not_written_by_its_former_worker(live: Live, vector_store: str, embedder: Embedder) -> None:
    """A worker that was thought dead, and wakes up, neither stores anything nor changes the state of the file."""
    file_id = live.upload("cats.md", CATS)
    live.attach(vector_store, file_id)
    sleeper = factory.open_store(live.settings)
    leased = sleeper.files.lease()
    with live.services.store.database.write() as connection:
        connection.execute(update(schema.files).where(schema.files.c.id == file_id).values(lease_until=0.0))
    live.index_waiting()

    with building_ingest(live.settings, sleeper) as ingest:
        index_uploads(sleeper, leased, lambda _: embedder, ingest)
    sleeper.database.close()

    assert live.file(vector_store, file_id)["status"] == "completed"
    assert live.file(vector_store, file_id)["last_error"] is None
    assert counted(live, schema.chunks.c.vector_store_id == vector_store) == 1


def test_deleted_file_is_gone_from_searches_and_passages(live: Live, vector_store: str) -> None:
    """A file taken out is found no more by any search, its passages are 404, and the upload stays."""
    file_id = live.upload("cats.md", CATS)
    live.attach(vector_store, file_id)
    live.index_waiting()
    url = live.search(vector_store, "sleep")[0]["rag"]["url"]
    there = live.client.get(url).status_code

    deleted = live.client.delete(f"/v1/vector_stores/{vector_store}/files/{file_id}").json()

    assert there == 200
    assert deleted == {"id": file_id, "object": "vector_store.file.deleted", "deleted": True}
    for kind in ("dense", "lexical", "hybrid"):
        assert live.found(vector_store, "sleep", rag={"retrieve": kind}) == []
    assert live.client.get(url).status_code == 404
    assert live.client.get(f"/v1/vector_stores/{vector_store}/files/{file_id}").status_code == 404
    assert live.client.get(f"/v1/vector_stores/{vector_store}").json()["file_counts"]["total"] == 0
    assert live.client.get(f"/v1/files/{file_id}").status_code == 200


def test_list_is_filtered_by_state(live: Live, vector_store: str) -> None:
    """The list holds every file, or those of one state; an unknown state is refused."""
    good, bad, stopped = (live.upload(*file) for file in (("a.md", CATS), ("b.pdf", "%PDF-1.7"), ("c.md", CATS)))
    for file_id in (good, bad, stopped):
        live.attach(vector_store, file_id)
    live.client.post(f"/v1/vector_stores/{vector_store}/files/{stopped}/cancel")
    live.index_waiting()
    waiting = live.upload("d.md", CATS)
    live.attach(vector_store, waiting)
    path = f"/v1/vector_stores/{vector_store}/files"

    listed = {
        state: [file["id"] for file in live.client.get(path, params={"filter": state}).json()["data"]]
        for state in ("completed", "failed", "cancelled", "in_progress")
    }
    everything = live.client.get(path).json()
    live.index_waiting()

    assert listed == {"completed": [good], "failed": [bad], "cancelled": [stopped], "in_progress": [waiting]}
    assert [file["id"] for file in everything["data"]] == [waiting, stopped, bad, good]
    assert (everything["first_id"], everything["last_id"]) == (waiting, good)
    assert live.client.get(path, params={"filter": "lost"}).json()["error"]["param"] == "filter"


def test_one_upload_is_in_two_vector_stores_independently(live: Live, vector_store: str) -> None:
    """An upload has its own attributes and its own life in each vector store that holds it."""
    file_id = live.upload("cats.md", CATS)
    other = live.create("the other one")
    live.attach(vector_store, file_id, attributes={"n": 1})
    live.attach(other, file_id, attributes={"n": 2})
    live.index_waiting()

    live.client.delete(f"/v1/vector_stores/{vector_store}/files/{file_id}")

    assert live.found(vector_store, "sleep") == []
    assert live.found(other, "sleep", filters={"type": "eq", "key": "n", "value": 2}) == ["cats.md"]


STATIC = "chunking_strategy.static"


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"max_chunk_size_tokens": 99, "chunk_overlap_tokens": 0}, "invalid_request", f"{STATIC}.max_chunk_size_tokens"),
        ({"max_chunk_size_tokens": 4097, "chunk_overlap_tokens": 0}, "invalid_request", f"{STATIC}.max_chunk_size_tokens"),
        ({"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 51}, "invalid_request", STATIC),
        ({"max_chunk_size_tokens": 100, "chunk_overlap_tokens": -1}, "invalid_request", f"{STATIC}.chunk_overlap_tokens"),
    ],
)
def test_chunking_out_of_bounds_names_the_field(
    live: Live, vector_store: str, fields: dict[str, int], code: str, param: str
) -> None:
    """A chunking beyond OpenAI's bounds is 400 for a file and for a new vector store, and nothing is queued."""
    file_id = live.upload("cats.md", CATS)
    strategy = {"type": "static", "static": fields}

    attached = live.client.post(
        f"/v1/vector_stores/{vector_store}/files", json={"file_id": file_id, "chunking_strategy": strategy}
    )
    made = live.client.post("/v1/vector_stores", json={"name": "never", "file_ids": [file_id], "chunking_strategy": strategy})

    for response in (attached, made):
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["param"]) == (400, code, param)
    assert live.client.get(f"/v1/vector_stores/{vector_store}/files").json()["data"] == []
    assert live.client.get("/v1/vector_stores/never").status_code == 404


@pytest.mark.parametrize("size", [(100, 50), (4096, 2048), (100, 0)])
def test_chunking_at_the_bounds_is_taken(live: Live, vector_store: str, size: tuple[int, int]) -> None:
    """OpenAI's smallest and largest sizes are taken, though the embedding model reads less than the largest."""
    static = {"max_chunk_size_tokens": size[0], "chunk_overlap_tokens": size[1]}
    file_id = live.upload("cats.md", CATS)
    live.attach(vector_store, file_id, chunking_strategy={"type": "static", "static": static})
    live.index_waiting()

    assert live.file(vector_store, file_id)["status"] == "completed"
    assert live.found(vector_store, "sleep") == ["cats.md"]


@pytest.mark.parametrize(
    "attributes",
    [{"a": None}, {"a": [1]}, {"a": {"b": 1}}, {"": 1}, {"k" * 65: 1}, {"a": "x" * 513}, {str(n): n for n in range(17)}],
)
def test_attribute_that_cannot_be_stored_is_named(live: Live, vector_store: str, attributes: dict) -> None:
    """An attribute of another type, or over OpenAI's limits, is 400 `invalid_attribute` when attached and when changed."""
    file_id = live.upload("cats.md", CATS)
    path = f"/v1/vector_stores/{vector_store}/files"
    refused = live.client.post(path, json={"file_id": file_id, "attributes": attributes})
    live.attach(vector_store, file_id, attributes={"kept": True})
    changed = live.client.post(f"{path}/{file_id}", json={"attributes": attributes})
    live.index_waiting()

    for response in (refused, changed):
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["param"]) == (400, "invalid_attribute", "attributes")
    assert live.file(vector_store, file_id)["attributes"] == {"kept": True}


@pytest.mark.parametrize("principals", ["red", [1], [""], ["x" * 257]])
def test_malformed_principals_never_open_a_file(live: Live, vector_store: str, principals: object) -> None:
    """A list of principals that is none is refused, rather than taken for an open file."""
    file_id = live.upload("cats.md", CATS)

    response = live.client.post(
        f"/v1/vector_stores/{vector_store}/files", json={"file_id": file_id, "rag": {"principals": principals}}
    )

    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith("rag.principals")
    assert live.client.get(f"/v1/vector_stores/{vector_store}/files").json()["data"] == []


def test_unknown_file_cannot_be_attached(live: Live, vector_store: str) -> None:
    """A file id that was never uploaded is 404."""
    response = live.client.post(f"/v1/vector_stores/{vector_store}/files", json={"file_id": "file-none"})

    assert response.status_code == 404
    assert "file-none" in response.json()["error"]["message"]


def test_content_is_the_text_that_was_read(live: Live, vector_store: str) -> None:
    """The parsed text comes as OpenAI's page: one part for a document, one per row of a table of texts, none while it waits."""
    html = live.upload("page.html", "<html><body><h1>Cats</h1><p>Cats sleep &amp; purr.</p></body></html>")
    table = live.upload(
        "rows.jsonl", "".join(json.dumps({"_id": f"r{n}", "text": f'Row "{n}" \u2028é.'}) + "\n" for n in range(40))
    )
    for file_id in (html, table):
        live.attach(vector_store, file_id)
    path = f"/v1/vector_stores/{vector_store}/files"
    waiting = live.client.get(f"{path}/{html}/content").json()
    live.index_waiting()

    page = live.client.get(f"{path}/{html}/content").json()
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as client:
        parts = list(client.vector_stores.files.content(table, vector_store_id=vector_store))

    assert waiting == {"object": "vector_store.file_content.page", "data": [], "has_more": False, "next_page": None}
    assert [part["type"] for part in page["data"]] == ["text"]
    assert "Cats sleep & purr." in page["data"][0]["text"]
    assert [part.text for part in parts] == [f'Row "{n}" \u2028é.' for n in range(40)]
    assert live.client.get(f"{path}/file-none/content").status_code == 404


def test_error_says_whose_fault_it_is(live: Live, vector_store: str) -> None:
    """A broken file is invalid, one that no loader reads is unsupported, and what killed its processes is the server's."""
    broken, unknown, fatal = (
        live.upload(name, content)
        for name, content in (
            ("broken.pdf", b"%PDF-1.7 nothing"),
            ("picture.png", b"\x89PNG\r\n\x1a\n" * 40),
            ("fatal.md", CATS),
        )
    )
    live.attach(vector_store, fatal)
    for _ in range(MAX_ATTEMPTS):
        live.services.store.files.lease()
        with live.services.store.database.write() as connection:
            connection.execute(update(schema.files).where(schema.files.c.id == fatal).values(lease_until=0.0))
    live.services.store.files.lease()
    for file_id in (broken, unknown):
        live.attach(vector_store, file_id)
    live.index_waiting()

    codes = [live.file(vector_store, file_id)["last_error"]["code"] for file_id in (broken, unknown, fatal)]

    assert codes == ["invalid_file", "unsupported_file", "server_error"]


def test_files_are_listed_in_pages(live: Live, vector_store: str) -> None:
    """Each file comes once, the newest first, forwards and backwards, also when only one state is asked for."""
    ids = [live.upload(f"{n}.md", CATS) for n in range(5)]
    for file_id in ids:
        live.attach(vector_store, file_id)
    live.client.post(f"/v1/vector_stores/{vector_store}/files/{ids[2]}/cancel")
    path = f"/v1/vector_stores/{vector_store}/files"

    first = live.client.get(path, params={"limit": 2, "filter": "in_progress"}).json()
    second = live.client.get(path, params={"limit": 2, "filter": "in_progress", "after": first["last_id"]}).json()
    back = live.client.get(path, params={"limit": 2, "filter": "in_progress", "before": second["first_id"]}).json()
    live.index_waiting()

    assert [file["id"] for file in first["data"] + second["data"]] == [ids[4], ids[3], ids[1], ids[0]]
    assert (first["has_more"], second["has_more"], back["data"]) == (True, False, first["data"])


@pytest.mark.parametrize("principals", [None, ["red", "blue"]])
def test_limited_key_does_not_change_what_others_read(live: Live, vector_store: str, principals: list[str] | None) -> None:
    """Attaching a file again would replace who may read it, which a key without all of its principals must not."""
    red, both, full = (live.as_key(live.make_key("", list_)) for list_ in (["red"], ["red", "blue"], None))
    file_id = live.upload("cats.md", CATS, red)
    path = f"/v1/vector_stores/{vector_store}"
    batch = red.post(f"{path}/file_batches", json={"file_ids": [file_id]}).json()["id"]
    live.attach(vector_store, file_id, full, rag={"principals": principals})

    refused = [
        red.post(f"{path}/files", json={"file_id": file_id}),
        red.post(f"{path}/file_batches", json={"file_ids": [file_id]}),
        red.post(f"{path}/file_batches/{batch}/cancel"),
        red.post(f"{path}/files/{file_id}", json={"attributes": {"a": 1}}),
        red.post(f"{path}/files/{file_id}/cancel"),
        red.delete(f"{path}/files/{file_id}"),
        red.delete(f"/v1/files/{file_id}"),
    ]
    live.index_waiting()
    found = [live.found(vector_store, "sleep", client) for client in (red, both, full)]
    by_both = both.delete(f"{path}/files/{file_id}")

    assert [response.status_code for response in refused] == [403] * 7
    assert found == [["cats.md"]] * 3
    assert by_both.status_code == (403 if principals is None else 200)


@pytest.mark.parametrize("named", [{}, {"rag": {}}])
def test_file_that_is_read_again_is_not_opened_to_everyone(live: Live, vector_store: str, named: dict[str, Any]) -> None:
    """Attaching a file once more keeps who may read it, unless the request says who; null is everyone."""
    full, blue = live.as_key(live.make_key("", None)), live.as_key(live.make_key("", ["blue"]))
    file_id = live.upload("cats.md", CATS, full)
    live.attach(vector_store, file_id, full, rag={"principals": ["red"]})
    live.index_waiting()

    live.attach(vector_store, file_id, full, **named)
    live.index_waiting()
    kept = live.found(vector_store, "sleep", blue)
    live.attach(vector_store, file_id, full, rag={"principals": None})
    live.index_waiting()

    assert kept == []
    assert live.found(vector_store, "sleep", blue) == ["cats.md"]


@pytest.mark.parametrize("principals", [["blue"], ["red", "blue"], []])
def test_limited_key_opens_files_to_its_own_principals_only(live: Live, vector_store: str, principals: list[str]) -> None:
    """It can neither put a file before readers that it does not stand for, nor hide one from all of them."""
    limited, blue = live.as_key(live.make_key("", ["red", "green"])), live.as_key(live.make_key("", ["blue"]))
    file_id = live.upload("cats.md", CATS, limited)
    path, rag = f"/v1/vector_stores/{vector_store}", {"principals": principals}

    refused = [
        limited.post(f"{path}/files", json={"file_id": file_id, "rag": rag}),
        limited.post(f"{path}/file_batches", json={"file_ids": [file_id], "rag": rag}),
        limited.post(f"{path}/file_batches", json={"files": [{"file_id": file_id, "rag": rag}]}),
    ]
    nothing = live.client.get(f"{path}/files").json()["data"]
    taken = limited.post(f"{path}/files", json={"file_id": file_id, "rag": {"principals": ["red"]}})
    live.index_waiting()

    assert [(response.status_code, response.json()["error"]["code"]) for response in refused] == [(403, "forbidden")] * 3
    assert (nothing, taken.status_code) == ([], 200)
    assert live.found(vector_store, "sleep", live.as_key(live.make_key("", ["red"]))) == ["cats.md"]
    for other in (blue, live.as_key(live.make_key("", ["green"]))):
        assert live.found(vector_store, "sleep", other) == []
