"""One suite for the truth store on SQLite and PostgreSQL: what is durable, what is logged, who works on what."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sqlalchemy import func, select

from rag_server import factory
from rag_server.config import load_settings
from rag_server.errors import (
    CancelledByUserError,
    EmbeddingMismatchError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
)
from rag_server.factory import Store
from rag_server.filters import parse_filter
from rag_server.store import schema, vector_stores
from rag_server.store.documents import LEASE_S, FileEnd, FilePart
from rag_server.store.expiry import remove_expired
from rag_server.store.files import MAX_ATTEMPTS
from rag_server.store.uploads import PART_BYTES
from rag_server.store.verification import verify
from rag_server.types import (
    Access,
    Chunk,
    Cursor,
    Document,
    EmbeddedDocument,
    Hit,
    NewFile,
    NewUploadSession,
    Page,
    Query,
    StoredFile,
    VectorStore,
)

DIMENSION = 4
# All that the store asks of an embedding model.
EMBEDDER = SimpleNamespace(model_id="m", dimension=DIMENSION, location=None)
NEW_MODEL = SimpleNamespace(model_id="n", dimension=2, location="/models/n")
ME = Access()


def opened(url: str, tmp_path: Path) -> Store:
    return factory.open_store(load_settings({"RAG_DATABASE__URL": url}, data_dir=tmp_path / "data"))


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    store = opened(database_url, tmp_path)
    yield store
    verify(store.database)
    store.database.close()


@pytest.fixture
def docs(store: Store) -> VectorStore:
    return store.vector_stores.get_or_create("docs", ME, EMBEDDER)


@pytest.fixture
def file(store: Store, docs: VectorStore) -> StoredFile:
    return store.files.begin(docs, NewFile("/a.md", "a.md", 3))


def embedded(document_id: str, *sentences: str, dimension: int = DIMENSION) -> EmbeddedDocument:
    ends = np.cumsum([len(sentence) for sentence in sentences]).tolist()
    chunks = tuple(Chunk(start, end, {"page": 1.0}) for start, end in zip([0, *ends[:-1]], ends, strict=True))
    vectors = np.eye(dimension, dtype=np.float32)[[number % dimension for number in range(len(chunks))]]
    whole = "".join(sentences)
    return EmbeddedDocument(Document(document_id, "Title", whole, {"year": 1999}), f"hash of {whole}", chunks, vectors)


def count(store: Store, table: object) -> int:
    with store.database.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def commits(store: Store) -> int:
    with store.database.read() as connection:
        return connection.execute(select(schema.facts.c.value).where(schema.facts.c.name == "commits")).scalar_one()


def upload(store: Store, content: bytes = b"text", *, access: Access = ME) -> str:
    return store.uploads.put(access, filename="u.md", purpose="assistants", content=[content]).id


def enqueue(store: Store, docs: VectorStore, upload_id: str) -> StoredFile:
    return store.files.enqueue(docs, NewFile(f"upload:{upload_id}", "u.md", 4, id=upload_id))


def test_log_tells_every_change_once_and_in_order(store: Store, docs: VectorStore, file: StoredFile) -> None:
    """Added chunks with their vectors, then deletions; ids only grow, also after everything was removed."""
    store.documents.put(docs, file, [embedded("d", "One. ", "Two.")], bytes_read=1)
    store.documents.put(docs, file, [embedded("d", "Three.")], bytes_read=2)
    page = store.log.read(docs, Cursor(), 10)
    store.files.delete(docs, file)
    again = store.files.begin(docs, NewFile("/b.md", "b.md", 3))
    store.documents.put(docs, again, [embedded("e", "Four.")], bytes_read=1)
    later = store.log.read(docs, page.cursor, 10)

    assert [(chunk.id, chunk.title, chunk.text, chunk.vector.tolist()) for chunk in page.added] == [
        (3, "Title", "Three.", [1.0, 0.0, 0.0, 0.0])
    ]
    assert page.deleted_chunk_ids == (1, 2)
    assert ([chunk.id for chunk in later.added], later.deleted_chunk_ids) == ([4], (3,))
    assert later.cursor == store.log.head(docs)


def test_two_servers_see_the_same_at_once(database_url: str, store: Store, docs: VectorStore, file: StoredFile) -> None:
    """What one server stores or removes, another on the same database reads with its next query."""
    other = opened(database_url, Path(store.database.path).parent if store.database.is_sqlite else Path("/tmp"))
    store.documents.put(docs, file, [embedded("d", "One.")], bytes_read=1)
    seen = other.log.read(docs, Cursor(), 10)
    other.files.delete(docs, file)

    assert [chunk.text for chunk in seen.added] == ["One."]
    assert store.log.read(docs, seen.cursor, 10).deleted_chunk_ids == (1,)
    assert store.passages.passages([Hit(1, 1.0)], ME) == []
    other.database.close()


def test_reader_never_skips_what_concurrent_writers_store(database_url: str, store: Store, docs: VectorStore) -> None:
    """Following the log by its cursor while four writers commit gives every chunk, although ids are given out before."""
    writers = [opened(database_url, store.database.path.parent) for _ in range(4)]

    def write(writer: Store, name: str) -> None:
        own = writer.files.begin(docs, NewFile(f"/{name}", name, 0))
        for number in range(15):
            writer.documents.put(docs, own, [embedded(f"{name}{number}", "One. ", "Two.")], bytes_read=0)

    threads = [threading.Thread(target=write, args=(writer, f"w{n}")) for n, writer in enumerate(writers)]
    for thread in threads:
        thread.start()
    followed, cursor = [], Cursor()
    while any(thread.is_alive() for thread in threads) or cursor != store.log.head(docs):
        page = store.log.read(docs, cursor, 7)
        followed += [chunk.id for chunk in page.added]
        cursor = page.cursor
    for writer in writers:
        writer.database.close()

    assert followed == sorted(set(followed))
    assert len(followed) == count(store, schema.chunks) == 4 * 15 * 2


def test_only_the_holder_of_the_lease_changes_a_file(database_url: str, store: Store, docs: VectorStore) -> None:
    """A process that lost its file to another one can neither store nor finish nor fail it."""
    other = opened(database_url, store.database.path.parent)
    mine = store.files.begin(docs, NewFile("/a.md", "a.md", 3))
    theirs = other.files.begin(docs, NewFile("/a.md", "a.md", 3))

    with pytest.raises(CancelledByUserError, match="another process"):
        store.documents.put(docs, mine, [embedded("d", "Mine.")], bytes_read=1)
    with pytest.raises(CancelledByUserError, match="another process"):
        store.documents.finish(docs, mine, fingerprint="x", keep=set(), error=None)
    store.files.fail(mine, "not mine")
    other.documents.put(docs, theirs, [embedded("d", "Theirs.")], bytes_read=1)
    other.documents.finish(docs, theirs, fingerprint="x", keep={"d"}, error=None)

    found = store.files.get(docs, mine.id, ME)
    assert (found.status, found.error, found.fingerprint) == ("completed", None, "x")
    other.database.close()


def test_an_upload_is_leased_once_and_again_when_its_worker_died(
    database_url: str, store: Store, docs: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers never get the same upload while the lease runs; after it, another one goes on, but not for ever."""
    other = opened(database_url, store.database.path.parent)
    queued = enqueue(store, docs, upload(store))
    first = store.files.lease()
    nothing = other.files.lease()
    now = time.time()
    taken_over = []
    for attempt in range(1, MAX_ATTEMPTS + 2):
        monkeypatch.setattr(time, "time", lambda attempt=attempt: now + attempt * (LEASE_S + 1))
        taken_over.append(other.files.lease())

    assert first is not None
    assert first.id == queued.id
    assert nothing is None
    assert [file is not None for file in taken_over] == [True] * (MAX_ATTEMPTS - 1) + [False, False]
    given_up = store.files.get(docs, queued.id, ME)
    assert given_up.status == "failed"
    assert "died 3 times" in str(given_up.error)
    assert store.files.num_waiting() == 0
    other.database.close()


def test_uploads_are_indexed_together_only_with_their_like(
    database_url: str, store: Store, docs: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same vector store, in their order; one over which a process has died goes alone."""
    other_docs = store.vector_stores.create("other", ME, EMBEDDER)
    queued = [enqueue(store, vector_store, upload(store)) for vector_store in (docs, docs, other_docs, docs)]
    first = store.files.lease()
    assert first is not None
    beside = store.files.lease(beside=first)
    of_other = store.files.lease(beside=first)
    third = store.files.lease()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + LEASE_S + 1)
    again = store.files.lease()
    assert again is not None
    after_death = store.files.lease(beside=again)

    assert [found.key if found else None for found in (first, beside, of_other, third)] == [
        queued[0].key,
        queued[1].key,
        None,
        queued[2].key,
    ]
    assert (again.key, after_death) == (queued[0].key, None)


def test_files_are_stored_together_but_for_those_that_were_lost(store: Store, docs: VectorStore, file: StoredFile) -> None:
    """One transaction stores several files and ends those that end; one that was cancelled is left out, and named."""
    others = [store.files.begin(docs, NewFile(f"/{name}.md", f"{name}.md", 3)) for name in "bc"]
    store.documents.put(docs, file, [embedded("a", "Old."), embedded("gone", "Gone.")], bytes_read=1)
    store.files.cancel(others[0])
    before = commits(store)

    refused = store.documents.store(
        docs,
        [
            FilePart(file, [embedded("a", "New. ", "Two."), embedded("b", "Three.")], 2, FileEnd("f", {"a", "b"}, "a row")),
            FilePart(others[0], [embedded("b", "Lost.")], 2, FileEnd("g", {"b"}, None)),
            FilePart(others[1], [embedded("a", "Four.")], 2),
        ],
    )

    assert {key: str(error) for key, error in refused.items()} == {others[0].key: "b.md was cancelled"}
    assert commits(store) == before + 1
    page = store.log.read(docs, Cursor(), 9)
    assert [(chunk.text, chunk.vector.tolist()) for chunk in page.added] == [
        ("New. ", [1.0, 0.0, 0.0, 0.0]),
        ("Two.", [0.0, 1.0, 0.0, 0.0]),
        ("Three.", [1.0, 0.0, 0.0, 0.0]),
        ("Four.", [1.0, 0.0, 0.0, 0.0]),
    ]
    assert page.deleted_chunk_ids == (1, 2)
    found = [store.files.get(docs, one.id, ME) for one in (file, *others)]
    assert [(one.status, one.fingerprint, one.error, one.bytes_read) for one in found] == [
        ("completed", "f", "a row", 3),
        ("cancelled", None, None, 0),
        ("in_progress", None, None, 2),
    ]


def test_a_document_without_a_vector_for_each_chunk_is_not_stored(store: Store, docs: VectorStore, file: StoredFile) -> None:
    """Though the document after it has one too many: no chunk gets another one's vector."""
    short, long = embedded("a", "One. ", "Two."), embedded("b", "Three.")
    with pytest.raises(ValueError, match="zip"):
        store.documents.put(
            docs, file, [replace(short, vectors=short.vectors[:1]), replace(long, vectors=short.vectors)], bytes_read=1
        )

    assert count(store, schema.chunks) == 0


def test_a_cancelled_file_is_not_stored_any_further_and_can_be_tried_again(store: Store, docs: VectorStore) -> None:
    """Cancelling reaches the worker with its next step; putting the file in again starts anew."""
    queued = enqueue(store, docs, upload(store))
    leased = store.files.lease()
    assert leased is not None
    store.documents.put(docs, leased, [embedded("a", "One.")], bytes_read=2)
    store.files.cancel(store.files.get(docs, queued.id, ME))

    for step in (
        lambda: store.documents.put(docs, leased, [embedded("b", "Two.")], bytes_read=3),
        lambda: store.files.renew(leased, 3),
        lambda: store.documents.finish(docs, leased, fingerprint="x", keep={"a"}, error=None),
    ):
        with pytest.raises(CancelledByUserError, match="was cancelled"):
            step()
    store.files.fail(leased, "cancelled")
    cancelled = store.files.get(docs, queued.id, ME)
    enqueue(store, docs, queued.id)

    assert (cancelled.status, cancelled.bytes_read) == ("cancelled", 2)
    assert [chunk.text for chunk in store.log.read(docs, Cursor(), 10).added] == ["One."]
    assert store.files.lease() is not None


def test_a_file_deleted_while_it_is_indexed_stays_deleted(store: Store, docs: VectorStore, file: StoredFile) -> None:
    """The worker learns of it with its next step, and leaves nothing behind."""
    store.documents.put(docs, file, [embedded("a", "One.")], bytes_read=1)
    store.files.delete(docs, file)

    with pytest.raises(CancelledByUserError, match="was deleted"):
        store.documents.put(docs, file, [embedded("b", "Two.")], bytes_read=1)
    assert count(store, schema.documents) == 0


def test_uploads_come_back_byte_for_byte(store: Store) -> None:
    """Content of several parts, of none, and binary content are returned as they were sent."""
    parts = [bytes(range(256)) * (PART_BYTES // 256), b"\x00\xff", b""]
    whole = store.uploads.put(ME, filename="x.bin", purpose="assistants", content=parts)
    empty = store.uploads.put(ME, filename="e", purpose="assistants", content=[])

    assert b"".join(store.uploads.content(whole.id)) == b"".join(parts)
    assert (whole.bytes, empty.bytes) == (PART_BYTES + 2, 0)
    assert list(store.uploads.content(empty.id)) == []
    assert store.uploads.readable(ME) == sorted([whole, empty], key=lambda found: (found.created_at, found.id))


def test_an_upload_that_breaks_off_is_not_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it can be listed, and a day later it is cleared away."""

    def breaking() -> Iterator[bytes]:
        yield b"first part"
        raise ConnectionError("client gone")

    with pytest.raises(ConnectionError):
        store.uploads.put(ME, filename="x", purpose="assistants", content=breaking())
    listed, parts = store.uploads.readable(ME), count(store, schema.upload_parts)
    now = time.time()
    kept = upload(store)
    removed_at_once = remove_expired(store.database)
    monkeypatch.setattr(time, "time", lambda: now + 2 * 86400)

    assert (listed, parts, removed_at_once) == ([], 1, 0)
    assert remove_expired(store.database) == 1
    assert [found.id for found in store.uploads.readable(ME)] == [kept]
    assert count(store, schema.upload_parts) == 1
    assert count(store, schema.uploads) == 1


def test_a_deleted_upload_leaves_every_vector_store(store: Store, docs: VectorStore) -> None:
    """Where it was indexed, where it waits and where it is worked on: nothing of it stays, and the indexes are told."""
    indexed, other = upload(store), store.vector_stores.create("other", ME, EMBEDDER)
    leased = enqueue(store, docs, indexed)
    assert store.files.lease() == replace(leased, status="in_progress")
    store.documents.put(docs, leased, [embedded("d", "One. ", "Two.")], bytes_read=1)
    enqueue(store, other, indexed)
    kept = enqueue(store, docs, upload(store))

    store.uploads.delete(store.uploads.get(indexed, ME), ME)

    assert store.files.readable(docs, ME) == [kept]
    assert store.files.readable(other, ME) == []
    assert (count(store, schema.chunks), count(store, schema.upload_parts)) == (0, 1)
    assert len(store.log.read(docs, Cursor(), 9).deleted_chunk_ids) == 2
    with pytest.raises(CancelledByUserError, match="was deleted"):
        store.documents.put(docs, leased, [embedded("d", "One.")], bytes_read=1)


@pytest.mark.parametrize("principals", [None, ("red", "blue"), ()])
def test_an_upload_that_others_read_is_not_deleted_by_a_limited_key(
    store: Store, docs: VectorStore, principals: tuple[str, ...] | None
) -> None:
    """Whoever sent a file cannot take it from those that it was opened to, nor open what was closed; their own they can."""
    red = Access("", frozenset(("red",)))
    mine = store.uploads.get(upload(store, access=red), red)
    source = f"upload:{mine.id}"
    store.files.enqueue(docs, NewFile(source, "u.md", 4, id=mine.id, principals=principals))

    with pytest.raises(ForbiddenError, match="limited to some documents"):
        store.uploads.delete(mine, red)
    with pytest.raises(ForbiddenError, match="limited to some documents"):
        store.files.enqueue(docs, NewFile(source, "u.md", 4, id=mine.id, principals=("red",)), red)
    there = store.uploads.get(mine.id, red)
    store.files.enqueue(docs, NewFile(source, "u.md", 4, id=mine.id, principals=("red",)))
    store.uploads.delete(there, red)

    assert store.files.readable(docs, ME) == store.uploads.readable(ME) == []


def test_an_upload_of_several_principals_is_deleted_by_a_key_that_has_them_all(store: Store) -> None:
    """One in common is enough to read it, and not to take it from the others."""
    red, both = Access("", frozenset(("red",))), Access("", frozenset(("red", "blue", "green")))
    shared = store.uploads.get(upload(store, access=Access("", frozenset(("red", "blue")))), red)

    with pytest.raises(ForbiddenError, match="limited to some documents"):
        store.uploads.delete(shared, red)
    there = store.uploads.get(shared.id, both)
    store.uploads.delete(there, both)

    assert store.uploads.readable(ME) == []


def test_an_upload_that_goes_before_it_is_attached_leaves_no_entry(
    store: Store, docs: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleted, expired or never completed: whoever looked it up a moment ago is told, and nothing is queued."""
    deleted = store.uploads.get(upload(store), ME)
    store.uploads.delete(deleted, ME)
    expired = store.uploads.put(ME, filename="u.md", purpose="assistants", content=[b"text"], expires_after_s=60).id
    incomplete = store.upload_sessions.begin(NewUploadSession("u.md", "assistants", "text/plain", 4), ME).file_id
    there = NewFile(f"upload:{(kept := upload(store))}", "u.md", 4, id=kept)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)

    for gone in (deleted.id, expired, incomplete):
        new = NewFile(f"upload:{gone}", "u.md", 4, id=gone)
        for attach in (
            lambda new=new: store.files.enqueue(docs, new),
            lambda new=new: store.file_batches.create(docs, [there, new], ME),
            lambda new=new: store.vector_stores.create("new", ME, EMBEDDER, [there, new]),
        ):
            with pytest.raises(NotFoundError, match=gone):
                attach()

    assert store.files.readable(docs, ME) == []
    assert store.vector_stores.list(ME) == [docs]


def test_uploads_are_their_senders(store: Store) -> None:
    """Another tenant, and a key with other principals, find nothing."""
    team, other = Access("t", frozenset(("red", "blue"))), Access("t", frozenset(("green",)))
    upload_id = upload(store, access=team)

    for access, sees in ((team, True), (Access("t"), True), (other, False), (ME, False)):
        assert [found.id for found in store.uploads.readable(access)] == ([upload_id] if sees else [])
    with pytest.raises(NotFoundError):
        store.uploads.get(upload_id, other)


def test_keys_are_found_by_their_secret_until_they_are_revoked(store: Store) -> None:
    """Only a hash of the secret is stored."""
    key, secret = store.keys.create("laptop", tenant="t", principals=["b", "a"])
    with store.database.read() as connection:
        stored = [str(value) for value in connection.execute(select(schema.keys)).one()]
    found, wrong = store.keys.find(secret), store.keys.find(secret[:-1])
    store.keys.revoke(key.id)

    assert found == key
    assert key.access == Access("t", frozenset(("a", "b")))
    assert wrong is None
    assert not any(secret in value for value in stored)
    assert store.keys.find(secret) is None
    assert not store.keys.any_unrevoked()
    assert [listed.revoked_at is not None for listed in store.keys.list()] == [True]
    with pytest.raises(NotFoundError, match="keys list"):
        store.keys.revoke("key_none")


def test_a_deleted_vector_store_leaves_nothing(store: Store, docs: VectorStore, file: StoredFile) -> None:
    """Not one row that belongs to it stays; the uploads do, and other vector stores."""
    other, sent = store.vector_stores.get_or_create("other", ME, EMBEDDER), upload(store)
    for vector_store in (docs, other):
        own = store.files.begin(vector_store, replace(NewFile("/x", "x", 1), principals=("p",), attributes={"a": 1}))
        store.documents.put(vector_store, own, [embedded("d", "One.")], bytes_read=1)
        store.file_batches.create(vector_store, [NewFile(f"upload:{sent}", "u.md", 1)], ME)
    store.vector_stores.delete(docs)
    one_left = [count(store, table) for table in (schema.files, schema.documents, schema.chunks, schema.vectors)]
    store.vector_stores.delete(other)

    assert one_left == [2, 1, 1, 1]
    for table in schema.metadata.sorted_tables:
        kept = {"uploads": 1, "upload_parts": 1, "embeddings": 1, "facts": 2}
        assert (table.name, count(store, table)) == (table.name, kept.get(table.name, 0))


def test_vector_stores_are_renamed_within_their_tenant(store: Store, docs: VectorStore) -> None:
    """A name may be another tenant's, but not another collection's of one's own."""
    theirs = store.vector_stores.create("docs", Access("t"), EMBEDDER)
    store.vector_stores.create("taken", ME, EMBEDDER)

    with pytest.raises(InvalidRequestError, match="another name"):
        store.vector_stores.change(docs, {"name": "taken"})
    store.vector_stores.change(docs, {"name": "new"})

    assert store.vector_stores.get("new", ME).id == docs.id
    assert [found.id for found in store.vector_stores.list(Access("t"))] == [theirs.id]
    with pytest.raises(NotFoundError):
        store.vector_stores.get(docs.id, Access("t"))


def test_vector_stores_made_in_one_second_keep_their_order(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list goes by when they were made, not by name, also where the second does not tell."""
    monkeypatch.setattr(vector_stores, "time", SimpleNamespace(time=lambda: 1.0))
    made = [store.vector_stores.create(name, ME, EMBEDDER) for name in ("zebra", "ant", "mole")]

    assert [found.id for found in store.vector_stores.list(ME)] == [found.id for found in made]
    assert [found.id for found in store.vector_stores.newest(2)] == [made[2].id, made[1].id]


def test_attributes_follow_at_once_and_old_results_are_forgotten(store: Store, docs: VectorStore, file: StoredFile) -> None:
    """A change of attributes moves the head of the log, which every cache is keyed on, and adds no chunk to it."""
    store.documents.put(docs, file, [embedded("d", "One.")], bytes_read=1)
    before = store.log.head(docs)
    store.files.set_attributes(docs, file, {"colour": "red", "year": 2024})
    page = store.log.read(docs, before, 10)

    assert store.log.head(docs) > before
    assert (page.added, page.deleted_chunk_ids) == ((), ())
    # The document's own attribute goes before its file's.
    assert store.passages.passages([Hit(1, 1.0)], ME)[0].attributes == {"colour": "red", "year": 1999}


def test_attributes_that_change_while_a_file_is_indexed_hold_for_all_of_it(store: Store, docs: VectorStore) -> None:
    """Documents stored before and after the change are found by the new ones only, and the store is whole."""
    file = store.files.begin(docs, NewFile("/a.md", "a.md", 3, attributes={"colour": "red"}))
    store.documents.put(docs, file, [embedded("before", "One.")], bytes_read=1)
    store.files.set_attributes(docs, file, {"colour": "blue"})
    store.documents.put(docs, file, [embedded("after", "Two.")], bytes_read=2)
    store.documents.finish(docs, file, fingerprint="f", keep={"before", "after"}, error=None)

    found = {}
    for colour in ("red", "blue"):
        query = Query("q", (docs,), ME, parse_filter({"type": "eq", "key": "colour", "value": colour}))
        found[colour] = list(store.selection.chunk_ids(docs, query))
    assert found == {"red": [], "blue": [1, 2]}
    verify(store.database)


def test_a_moved_file_keeps_its_chunks(store: Store, docs: VectorStore, file: StoredFile) -> None:
    """Only its path and the id of the document that goes by its name change."""
    store.documents.put(docs, file, [embedded("a.md", "One.")], bytes_read=1)
    store.documents.finish(docs, file, fingerprint="f", keep={"a.md"}, error=None)
    store.files.move(docs, store.files.find_content(docs, "f")[0], "/b/b.md", "b.md")

    found = store.passages.passages([Hit(1, 1.0)], ME)[0]
    assert (found.id, found.document_id, found.filename) == (1, "b.md", "b.md")
    assert [moved.source for moved in store.files.under(docs, Path("/b"))] == ["/b/b.md"]
    assert store.files.find(docs, "/a.md") is None


def test_model_changes_only_when_every_vector_is_there(store: Store, docs: VectorStore, file: StoredFile) -> None:
    """Until then the old vectors are searched; afterwards nothing can be stored with the old model; back is the same."""
    store.documents.put(docs, file, [embedded("d", "One. ", "Two.")], bytes_read=1)
    new_id = store.model_change.begin(NEW_MODEL)
    missing = store.model_change.missing(docs, new_id, 10)
    store.model_change.add(new_id, [1], np.ones((1, 2), dtype=np.float32))
    too_early = store.model_change.switch(docs, new_id)
    still = store.vector_stores.get("docs", ME)
    store.model_change.add(new_id, [2, 99], np.ones((2, 2), dtype=np.float32))
    switched = store.model_change.switch(docs, new_id)
    changed = store.vector_stores.get("docs", ME)

    assert [(chunk.id, chunk.text, chunk.place) for chunk in missing] == [
        (1, "One. ", {"page": 1.0}),
        (2, "Two.", {"page": 1.0}),
    ]
    assert (too_early, still, switched) == (False, docs, True)
    assert (changed.embedding_model, changed.embedding_location, changed.dimension) == ("n", "/models/n", 2)
    assert [chunk.vector.tolist() for chunk in store.log.read(changed, Cursor(), 10).added] == [[1.0, 1.0]] * 2
    with pytest.raises(EmbeddingMismatchError, match="changed to another"):
        store.documents.put(docs, file, [embedded("e", "Three.")], bytes_read=1)
    store.documents.put(changed, file, [embedded("e", "Three.", dimension=2)], bytes_read=1)
    assert [chunk.id for chunk in store.model_change.missing(changed, docs.embedding_id, 10)] == [3]
    with pytest.raises(EmbeddingMismatchError, match="ask again"):
        store.log.read(docs, Cursor(), 10)
    store.model_change.add(docs.embedding_id, [3], np.ones((1, DIMENSION), dtype=np.float32))
    assert store.model_change.switch(changed, docs.embedding_id)
    assert store.vector_stores.get("docs", ME) == docs
    assert store.model_change.drop_others(docs) == 3
    assert count(store, schema.vectors) == 3


def test_text_of_every_script_is_kept(store: Store, docs: VectorStore, file: StoredFile) -> None:
    """Characters beyond the basic plane, combining marks and right-to-left text come back at the same offsets."""
    text = "Ünïcödé 𝔘𝔫𝔦 عربي 日本語 e\u0301 👩‍👩‍👧. "
    store.documents.put(docs, file, [embedded("d", text, "Next.")], bytes_read=1)

    passage, whole = store.passages.passage(2, ME).passage, store.passages.stretch(2, ME).text
    assert whole[passage.start : passage.end] == passage.text == "Next."
    assert whole.startswith(text)
    assert store.passages.passage(2, ME).characters == len(whole) == len(text) + 5


def test_what_breaks_off_leaves_no_half(store: Store, docs: VectorStore, file: StoredFile) -> None:
    """A transaction that fails in its last document has stored none of them, and removed none."""
    store.documents.put(docs, file, [embedded("a", "Old.")], bytes_read=1)
    broken = replace(embedded("b", "New."), vectors=np.zeros((5, DIMENSION), dtype=np.float32))

    with pytest.raises(ValueError, match="zip"):
        store.documents.put(docs, file, [embedded("a", "New."), broken], bytes_read=1)
    assert [chunk.text for chunk in store.log.read(docs, Cursor(), 10).added] == ["Old."]
    assert count(store, schema.deletions) == 0


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_text_that_no_database_stores_is_the_callers_fault(store: Store, docs: VectorStore, text: str) -> None:
    """A NUL character or half of a surrogate pair, wherever it comes from, is a faulty request or unknown, never a failure."""
    for ask in (
        lambda: store.uploads.get(text, ME),
        lambda: store.vector_stores.get(text, ME),
        lambda: store.files.get(docs, text, ME),
        lambda: store.file_batches.get(docs, text, ME),
        lambda: store.upload_sessions.get(text, ME),
        lambda: store.uploads.page(ME, Page(after=text)),
    ):
        with pytest.raises((InvalidRequestError, NotFoundError)):
            ask()
