"""Vector stores over HTTP: made, filled, renamed, deleted."""

from collections.abc import Iterator

import openai
import pytest

from rag_server.protocols import Embedder
from tests.live import Live, live_server

CATS = "# Cats\n\nCats sleep for sixteen hours a day."


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """One server for the module, open to everyone; uploads are indexed when a test says so."""
    with live_server(tmp_path_factory.mktemp("stores"), embedder) as server:
        yield server


@pytest.fixture
def client(live: Live) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_official_client_makes_searches_renames_and_deletes(live: Live, client: openai.OpenAI) -> None:
    """With OpenAI's own client a vector store is made from files, counted, searched, renamed, and deleted."""
    file = client.files.create(file=("cats.md", CATS.encode()), purpose="assistants")

    made = client.vector_stores.create(name="first", file_ids=[file.id])
    live.index_waiting()
    done = client.vector_stores.retrieve(made.id)
    found = client.vector_stores.search(made.id, query="How long do cats sleep?").data
    renamed = client.vector_stores.update(made.id, name="second")
    listed = [store.name for store in client.vector_stores.list()]
    deleted = client.vector_stores.delete(made.id)

    assert (made.status, made.file_counts.in_progress, made.file_counts.total) == ("in_progress", 1, 1)
    assert (done.status, done.file_counts.completed, done.usage_bytes) == ("completed", 1, len(CATS))
    assert [(result.filename, result.content[0].text) for result in found] == [("cats.md", CATS)]
    assert renamed.name == "second"
    assert "second" in listed
    assert deleted.deleted
    with pytest.raises(openai.NotFoundError):
        client.vector_stores.retrieve("second")
    with pytest.raises(openai.NotFoundError):
        client.vector_stores.search(made.id, query="cats")


def test_upload_outlives_its_vector_store(live: Live) -> None:
    """Deleting a vector store leaves the uploads, which go into another one; its passages answer no longer."""
    file_id = live.upload("cats.md", CATS)
    first = live.create("first life", file_ids=[file_id])
    live.index_waiting()
    url = live.search(first, "sleep")[0]["rag"]["url"]

    assert live.client.delete(f"/v1/vector_stores/{first}").status_code == 200
    gone = live.client.get(url).status_code
    second = live.create("second life", file_ids=[file_id])
    live.index_waiting()

    assert gone == 404
    assert live.found(second, "sleep") == ["cats.md"]


def test_name_is_free_again_after_deletion(live: Live) -> None:
    """A vector store of a deleted one's name is another one, and empty."""
    old = live.create("phoenix", file_ids=[live.upload("cats.md", CATS)])
    live.index_waiting()
    assert live.found("phoenix", "sleep") == ["cats.md"]

    live.client.delete(f"/v1/vector_stores/{old}")
    new = live.create("phoenix")

    assert new != old
    assert live.found("phoenix", "sleep") == []
    assert live.client.get("/v1/vector_stores/phoenix").json()["file_counts"]["total"] == 0


def test_deleted_vector_store_leaves_nothing_on_disk(live: Live) -> None:
    """The derived indexes of a deleted vector store go with it."""
    vector_store = live.create("short-lived", file_ids=[live.upload("cats.md", CATS)])
    live.index_waiting()
    live.search(vector_store, "sleep", rag={"retrieve": "hybrid"})
    live.services.indexes.save()
    folder = live.settings.data_dir / "indexes" / vector_store
    there = folder.exists()

    live.client.delete(f"/v1/vector_stores/{vector_store}")
    live.services.indexes.save()

    assert there
    assert not folder.exists()


def test_vector_store_of_an_unknown_file_is_not_made(live: Live) -> None:
    """A file id that is not there is 404, and no half-made vector store stays."""
    response = live.client.post("/v1/vector_stores", json={"name": "half", "file_ids": ["file-none"]})

    assert response.status_code == 404
    assert live.client.get("/v1/vector_stores/half").status_code == 404


@pytest.mark.parametrize("name", ["", "vs_mine", "a/b", "line\nbreak"])
def test_name_that_cannot_be_asked_for_is_refused(live: Live, name: str) -> None:
    """A name that could be mistaken for an id, or stands in no address, is refused for new and old vector stores."""
    old = live.create(f"good {name!r}".replace("/", ""))

    made = live.client.post("/v1/vector_stores", json={"name": name})
    renamed = live.client.post(f"/v1/vector_stores/{old}", json={"name": name})

    assert [(response.status_code, response.json()["error"]["param"]) for response in (made, renamed)] == [(400, "name")] * 2


def test_taken_name_is_refused(live: Live) -> None:
    """Two vector stores never share a name; one may be renamed to its own."""
    live.create("taken")
    other = live.create("other")

    made = live.client.post("/v1/vector_stores", json={"name": "taken"})
    renamed = live.client.post(f"/v1/vector_stores/{other}", json={"name": "taken"})
    own = live.client.post(f"/v1/vector_stores/{other}", json={"name": "other"})

    assert [made.status_code, renamed.status_code, own.status_code] == [400, 400, 200]


@pytest.mark.parametrize(
    ("filters", "sign"),
    [
        ({}, "filters.type"),
        ({"type": "like", "key": "a", "value": "b"}, "like"),
        ({"type": "eq", "value": "b"}, "filters.key"),
        ({"type": "eq", "key": "a", "value": [1]}, "filters.value"),
        ({"type": "eq", "key": "a", "value": None}, "filters.value"),
        ({"type": "in", "key": "a", "value": "b"}, "filters.value"),
        ({"type": "gt", "key": "a", "value": True}, "filters.value"),
        ({"type": "and", "filters": []}, "filters.filters"),
        ({"type": "or", "filters": [{"type": "eq", "key": "a", "value": 1}, 7]}, "filters.filters[1]"),
    ],
)
def test_malformed_filter_is_named(live: Live, filters: dict, sign: str) -> None:
    """A malformed filter is 400 `invalid_filter` for a search and for a chat, and the message says where."""
    if "filtered" not in [store["name"] for store in live.client.get("/v1/vector_stores").json()["data"]]:
        live.create("filtered")

    search = live.client.post("/v1/vector_stores/filtered/search", json={"query": "x", "filters": filters})
    messages = [{"role": "user", "content": "x"}]
    chat = live.client.post(
        "/v1/chat/completions", json={"model": "rag/filtered", "messages": messages, "rag": {"filters": filters}}
    )

    for response in (search, chat):
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["param"]) == (400, "invalid_filter", "filters")
        assert sign in error["message"]


def test_chat_answers_only_from_what_the_filter_admits(live: Live) -> None:
    """The filter of a chat decides what reaches the engine."""
    vector_store = live.create("years")
    for year in (1999, 2024):
        live.attach(vector_store, live.upload(f"{year}.md", f"The harvest of {year} was good."), attributes={"year": year})
    live.index_waiting()
    live.engine.sent.clear()
    filters = {"type": "gte", "key": "year", "value": 2000}
    messages = [{"role": "user", "content": "How was the harvest?"}]

    answer = live.client.post(
        "/v1/chat/completions", json={"model": "rag/years", "messages": messages, "rag": {"filters": filters}}
    ).json()

    assert [passage["filename"] for passage in answer["rag"]["passages"]] == ["2024.md"]
    assert b"harvest of 2024" in b"".join(live.engine.sent)
    assert b"1999" not in b"".join(live.engine.sent)


def test_number_and_boolean_are_told_apart(live: Live) -> None:
    """A filter for 1 and one for true find each their own, asked right after one another."""
    vector_store = live.create("kinds")
    for name, value in (("number.md", 1), ("boolean.md", True)):
        live.attach(vector_store, live.upload(name, f"A harvest in {name}."), attributes={"flag": value})
    live.index_waiting()

    found = [
        live.found(vector_store, "harvest", filters={"type": "eq", "key": "flag", "value": value})
        for value in (1, True, 1.0, True)
    ]

    assert found == [["number.md"], ["boolean.md"], ["number.md"], ["boolean.md"]]
