"""Vector stores, their files and batches, and search with the openai package."""

from collections.abc import Callable

import pytest
from openai import AsyncOpenAI, NotFoundError, OpenAI


def upload(client: OpenAI, name: str, text: str) -> str:
    return client.files.create(file=(name, text.encode()), purpose="assistants").id


def test_a_store_is_made_changed_listed_and_deleted(client: OpenAI) -> None:
    made = client.vector_stores.create(
        name="quays", metadata={"team": "a"}, expires_after={"anchor": "last_active_at", "days": 7}
    )

    assert (made.name, made.status, made.metadata, made.file_counts.total) == ("quays", "completed", {"team": "a"}, 0)
    assert made.expires_after.days == 7
    changed = client.vector_stores.update(made.id, name="piers", metadata={"team": "b"})
    assert (changed.name, changed.metadata) == ("piers", {"team": "b"})
    assert client.vector_stores.retrieve(made.id).name == "piers"
    assert made.id in [store.id for store in client.vector_stores.list(limit=1)]
    assert client.vector_stores.delete(made.id).deleted
    with pytest.raises(NotFoundError):
        client.vector_stores.retrieve(made.id)


def test_a_file_is_attached_polled_read_and_found(client: OpenAI, make_store: Callable[..., str]) -> None:
    store = make_store("attached")
    file_id = upload(client, "buoy.md", "# Buoy\n\nThe red buoy marks the reef.\n")

    file = client.vector_stores.files.create_and_poll(
        file_id,
        vector_store_id=store,
        attributes={"year": 2024, "open": True, "place": "reef"},
        chunking_strategy={"type": "static", "static": {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 50}},
        poll_interval_ms=100,
    )

    assert (file.status, file.last_error) == ("completed", None)
    assert file.attributes == {"year": 2024, "open": True, "place": "reef"}
    assert file.chunking_strategy.static.max_chunk_size_tokens == 200
    (content,) = client.vector_stores.files.content(file_id, vector_store_id=store).data
    assert "red buoy" in content.text
    (result,) = client.vector_stores.search(store, query="what marks the reef?").data
    assert (result.file_id, result.filename) == (file_id, "buoy.md")
    assert "red buoy" in result.content[0].text
    assert 0 <= result.score <= 1


def test_a_file_is_uploaded_and_polled_in_one_call(client: OpenAI, make_store: Callable[..., str]) -> None:
    store = make_store("uploaded")

    file = client.vector_stores.files.upload_and_poll(
        vector_store_id=store, file=("kelp.txt", b"Kelp grows fast."), poll_interval_ms=100
    )

    assert file.status == "completed"
    assert [found.id for found in client.vector_stores.files.list(store, filter="completed")] == [file.id]
    assert [found.id for found in client.vector_stores.files.list(store, filter="failed")] == []
    assert client.vector_stores.retrieve(store).file_counts.completed == 1


def test_a_file_that_cannot_be_read_fails_and_says_why(client: OpenAI, make_store: Callable[..., str]) -> None:
    store = make_store("broken")

    file = client.vector_stores.files.upload_and_poll(
        vector_store_id=store, file=("broken.pdf", b"%PDF-1.7 and no more"), poll_interval_ms=100
    )

    assert file.status == "failed"
    assert file.last_error.code in ("server_error", "unsupported_file", "invalid_file")
    assert file.last_error.message


def test_attributes_are_changed_and_filter_the_search(client: OpenAI, make_store: Callable[..., str]) -> None:
    store = make_store("filtered")
    for name, year in (("old.md", 1990), ("new.md", 2020)):
        client.vector_stores.files.create_and_poll(
            upload(client, name, f"The tide table of {year}."),
            vector_store_id=store,
            attributes={"year": year},
            poll_interval_ms=100,
        )
    filters = {"type": "and", "filters": [{"type": "gte", "key": "year", "value": 2000}]}

    found = client.vector_stores.search(store, query="tide table", filters=filters, max_num_results=5).data
    assert [result.filename for result in found] == ["new.md"]
    assert found[0].attributes["year"] == 2020

    client.vector_stores.files.update(found[0].file_id, vector_store_id=store, attributes={"year": 1980})
    assert client.vector_stores.search(store, query="tide table", filters=filters).data == []


def test_a_file_is_detached_and_found_no_more(client: OpenAI, make_store: Callable[..., str]) -> None:
    store = make_store("detached")
    file = client.vector_stores.files.upload_and_poll(
        vector_store_id=store, file=("eel.txt", b"The eel migrates."), poll_interval_ms=100
    )

    assert client.vector_stores.files.delete(file.id, vector_store_id=store).deleted
    assert client.vector_stores.search(store, query="eel").data == []
    assert client.files.retrieve(file.id).id == file.id


def test_a_batch_of_files_is_polled_and_listed(client: OpenAI, make_store: Callable[..., str]) -> None:
    store = make_store("batched")
    ids = [upload(client, f"{number}.txt", f"Mooring number {number}.") for number in range(3)]

    batch = client.vector_stores.file_batches.create_and_poll(
        store, file_ids=ids, attributes={"kind": "mooring"}, poll_interval_ms=100
    )

    assert (batch.status, batch.file_counts.completed, batch.file_counts.total) == ("completed", 3, 3)
    assert client.vector_stores.file_batches.retrieve(batch.id, vector_store_id=store) == batch
    listed = client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store, limit=2)
    assert sorted(file.id for file in listed) == sorted(ids)


def test_a_batch_uploads_its_files(client: OpenAI, make_store: Callable[..., str]) -> None:
    store = make_store("batch-uploads")
    files = [(f"{number}.txt", f"Anchor number {number}.".encode()) for number in range(3)]

    batch = client.vector_stores.file_batches.upload_and_poll(store, files=files, poll_interval_ms=100)

    assert (batch.status, batch.file_counts.completed) == ("completed", 3)


def test_a_batch_is_cancelled(client: OpenAI, make_store: Callable[..., str]) -> None:
    store = make_store("cancelled")
    batch = client.vector_stores.file_batches.create(store, file_ids=[upload(client, "c.txt", "Cancelled.")])

    cancelled = client.vector_stores.file_batches.cancel(batch.id, vector_store_id=store)

    assert cancelled.id == batch.id
    assert cancelled.status in ("cancelled", "completed")


def test_search_takes_several_queries_ranking_options_and_rewriting(client: OpenAI) -> None:
    found = client.vector_stores.search(
        "handbook",
        query=["ferry", "price of a ticket"],
        rewrite_query=True,
        ranking_options={"ranker": "auto", "score_threshold": 0.0},
        max_num_results=2,
    )

    assert 1 <= len(found.data) <= 2
    assert found.data[0].filename == "ferry.md"


async def test_the_asynchronous_client_uploads_polls_and_searches(async_client: AsyncOpenAI) -> None:
    store = await async_client.vector_stores.create(name="async")
    file = await async_client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("crab.txt", b"The crab walks sideways."), poll_interval_ms=100
    )

    assert file.status == "completed"
    found = [result async for result in async_client.vector_stores.search(store.id, query="how does the crab walk?")]
    assert [result.filename for result in found] == ["crab.txt"]
    await async_client.vector_stores.delete(store.id)
