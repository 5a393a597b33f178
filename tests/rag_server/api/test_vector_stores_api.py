"""Vector stores over HTTP: made, filled, renamed, deleted."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import openai
import pytest
from sqlalchemy import event

from rag_server.protocols import Embedder
from tests.live import Live, live_server
from tests.stores import rows

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


DAY_S = 86400


def get(live: Live, vector_store: str) -> dict[str, Any]:
    found: dict[str, Any] = live.client.get(f"/v1/vector_stores/{vector_store}").json()
    return found


def test_everything_that_is_set_is_shown_and_changed(live: Live, client: openai.OpenAI) -> None:
    """Description, metadata and expiry come back; a change sets what it names, null takes it away, the rest stays."""
    expires_after = {"anchor": "last_active_at", "days": 7}
    made = client.vector_stores.create(
        name="full", description="all of it", metadata={"team": "red"}, expires_after=expires_after
    )
    shown = get(live, made.id)
    renamed = live.client.post(f"/v1/vector_stores/{made.id}", json={"name": "fuller"}).json()
    changed = client.vector_stores.update(
        made.id, metadata={"a": "b"}, expires_after={"anchor": "last_active_at", "days": 1}
    ).to_dict()
    cleared = live.client.post(
        f"/v1/vector_stores/{made.id}", json={"name": None, "metadata": None, "expires_after": None}
    ).json()

    assert (made.metadata, made.expires_after.to_dict()) == ({"team": "red"}, expires_after)
    assert (shown["description"], shown["expires_at"]) == ("all of it", shown["last_active_at"] + 7 * DAY_S)
    assert renamed == {**shown, "name": "fuller"}
    assert (changed["name"], changed["metadata"]) == ("fuller", {"a": "b"})
    assert changed["expires_at"] == changed["last_active_at"] + DAY_S
    assert (cleared["name"], cleared["metadata"], cleared["expires_at"], cleared["description"]) == ("", {}, None, "all of it")
    assert "expires_after" not in cleared


def test_vector_store_without_a_name_goes_by_its_id(live: Live) -> None:
    """Any number of them may have none; each is a model by its id, and can be given a name and lose it again."""
    first, second = (live.client.post("/v1/vector_stores", json={}).json() for _ in range(2))
    live.attach(first["id"], live.upload("cats.md", CATS))
    live.index_waiting()

    models = {model["id"] for model in live.client.get("/v1/models").json()["data"]}
    body = {"model": f"rag/{first['id']}", "messages": [{"role": "user", "content": "How long do cats sleep?"}]}
    answer = live.client.post("/v1/chat/completions", json=body).json()

    assert (first["name"], second["name"]) == ("", "")
    assert {f"rag/{first['id']}", f"rag/{second['id']}"} <= models
    assert [passage["filename"] for passage in answer["rag"]["passages"]] == ["cats.md"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {"a": "x" * 513}}, "metadata.a"),
        ({"metadata": {"a": "\0"}}, "metadata.a"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"expires_after": {"anchor": "last_active_at", "days": 0}}, "expires_after.days"),
        ({"expires_after": {"anchor": "last_active_at", "days": 366}}, "expires_after.days"),
        ({"expires_after": {"anchor": "created_at", "days": 3}}, "expires_after.anchor"),
        ({"name": "x" * 257}, "name"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_value_out_of_bounds_names_the_field(live: Live, fields: dict, param: str) -> None:
    """What is too long, too many or unknown is refused for a new vector store and for one that is there."""
    old = live.client.post("/v1/vector_stores", json={}).json()

    made = live.client.post("/v1/vector_stores", json=fields)
    changed = live.client.post(f"/v1/vector_stores/{old['id']}", json=fields)

    assert [(response.status_code, response.json()["error"]["param"]) for response in (made, changed)] == [(400, param)] * 2
    assert get(live, old["id"]) == old


def test_vector_store_expires_unless_it_is_used(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search puts the expiry off; once it has come nothing is searched or attached, and the files can still be listed."""
    store = live.create("fading", expires_after={"anchor": "last_active_at", "days": 2})
    file_id = live.upload("cats.md", CATS)
    live.attach(store, file_id)
    live.index_waiting()
    now = time.time()

    monkeypatch.setattr(time, "time", lambda: now + 1.9 * DAY_S)
    in_time = live.found(store, "sleep")
    monkeypatch.setattr(time, "time", lambda: now + 3 * DAY_S)
    still = get(live, store)["status"]
    monkeypatch.setattr(time, "time", lambda: now + 4 * DAY_S)
    expired = get(live, store)
    attempts = {
        "search": {"query": "sleep"},
        "files": {"file_id": file_id},
        "file_batches": {"file_ids": [file_id]},
    }
    refused = [live.client.post(f"/v1/vector_stores/{store}/{path}", json=body) for path, body in attempts.items()]
    listed = live.client.get(f"/v1/vector_stores/{store}/files").json()["data"]
    live.client.post(f"/v1/vector_stores/{store}", json={"expires_after": None})

    assert (in_time, still, expired["status"]) == (["cats.md"], "completed", "expired")
    assert expired["expires_at"] == expired["last_active_at"] + 2 * DAY_S
    for response in refused:
        assert (response.status_code, response.json()["error"]["code"]) == (400, "expired")
        assert "not used for 2 days" in response.json()["error"]["message"]
    assert [file["id"] for file in listed] == [file_id]
    assert live.found(store, "sleep") == ["cats.md"]


def test_use_is_written_down_without_a_write_per_search(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches change nothing in the store; the next tidying writes the last one's time, which another process reads."""
    store = live.create("counted")
    now = time.time()
    commits = "SELECT value FROM facts WHERE name = 'commits'"
    before = rows(live.services.store, commits)

    monkeypatch.setattr(time, "time", lambda: now + 500)
    for _ in range(5):
        live.search(store, "sleep")
    after_searches = rows(live.services.store, commits)
    shown = get(live, store)["last_active_at"]
    live.services.tidy()

    assert after_searches == before
    assert shown == int(now + 500)
    last_active = rows(live.services.store, "SELECT last_active_at FROM vector_stores WHERE id = :id", {"id": store})
    assert last_active == [(int(now + 500),)]


def test_vector_stores_are_listed_in_pages(live: Live) -> None:
    """The newest come first, each once, forwards and backwards, also those of one second; counts are each its own."""
    client = live.as_key(live.services.local_secret)
    file_id = live.upload("cats.md", CATS)
    ids = [live.create(f"page {n}", client, **({"file_ids": [file_id]} if n % 2 else {})) for n in range(5)]

    first = client.get("/v1/vector_stores", params={"limit": 2}).json()
    second = client.get("/v1/vector_stores", params={"limit": 3, "after": first["last_id"]}).json()
    back = client.get("/v1/vector_stores", params={"limit": 2, "before": second["first_id"]}).json()
    unknown = client.get("/v1/vector_stores", params={"after": "vs_none"})

    listed = first["data"] + second["data"]
    assert [store["id"] for store in listed] == ids[::-1]
    assert [store["file_counts"]["total"] for store in listed] == [0, 1, 0, 1, 0]
    assert [store["usage_bytes"] for store in listed] == [0, len(CATS), 0, len(CATS), 0]
    assert (first["has_more"], back["data"]) == (True, first["data"])
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (400, "after")


def test_page_of_many_vector_stores_takes_few_queries(live: Live) -> None:
    """A page of twenty takes as many statements as a page of two."""
    for n in range(20):
        live.create(f"many {n}")
    counted = {limit: statements(live, f"/v1/vector_stores?limit={limit}") for limit in (2, 20)}

    assert counted[2] == counted[20]


def statements(live: Live, path: str) -> int:
    """How many statements the store is asked for a request."""
    asked: list[str] = []
    engine = live.services.store.database._engine

    def note(*arguments: Any) -> None:
        asked.append(arguments[2])

    event.listen(engine, "before_cursor_execute", note)
    try:
        assert live.client.get(path).status_code == 200
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return len(asked)


# Search


@pytest.fixture(scope="module")
def harvests(live: Live) -> str:
    """A vector store with three files about the same."""
    store = live.create("harvests")
    for year in (1999, 2000, 2024):
        live.attach(store, live.upload(f"{year}.md", f"The harvest of {year} was good in every village."))
    live.index_waiting()
    return store


@pytest.mark.parametrize(("kind", "score"), [("dense", "cosine"), ("lexical", "bm25"), ("hybrid", "fused_ranks")])
def test_threshold_applies_to_the_score_that_is_shown(live: Live, harvests: str, kind: str, score: str) -> None:
    """Scores are from 0 to 1 and named; a threshold keeps exactly the results that reach it."""
    body = {"query": "harvest of 1999", "rag": {"retrieve": kind}}
    path = f"/v1/vector_stores/{harvests}/search"
    page = live.client.post(path, json=body).json()
    scores = [result["score"] for result in page["data"]]
    assert len(scores) == 3

    for threshold in (0, *scores, 1):
        ranking_options = {"score_threshold": threshold, "ranker": "auto"}
        found = live.client.post(path, json={**body, "ranking_options": ranking_options}).json()["data"]
        assert [result["score"] for result in found] == [score for score in scores if score >= threshold]

    assert page["rag"]["score"] == score
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score <= 1 for score in scores)


def test_ranker_none_leaves_the_order_of_the_search(live: Live, harvests: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the settings rank with a model, `none` turns it off; the others do as the settings say; our own option wins."""
    ranking = replace(live.services.default_options, rerank="full_ranking")
    monkeypatch.setattr(live.services, "default_options", ranking)
    path = f"/v1/vector_stores/{harvests}/search"

    def asked(**fields: Any) -> tuple[str, str]:
        rag = live.client.post(path, json={"query": "harvest", **fields}).json()["rag"]
        return rag["rerank"]["kind"], rag["score"]

    assert asked(ranking_options={"ranker": "none"}) == ("none", "fused_ranks")
    assert asked()[0] == asked(ranking_options={"ranker": "default-2024-11-15"})[0] == "full_ranking"
    assert asked(ranking_options={"ranker": "none"}, rag={"rerank": "full_ranking"})[0] == "full_ranking"
    assert asked(ranking_options={}, rag={"rerank": "none"}) == ("none", "fused_ranks")


def test_several_queries_are_one_search(live: Live, harvests: str) -> None:
    """A list of queries finds what all their words find, and is said back as it was sent."""
    page = live.client.post(
        f"/v1/vector_stores/{harvests}/search", json={"query": ["harvest 1999", "2024"], "rag": {"retrieve": "lexical"}}
    ).json()

    assert page["search_query"] == ["harvest 1999", "2024"]
    assert {result["filename"] for result in page["data"][:2]} == {"1999.md", "2024.md"}
