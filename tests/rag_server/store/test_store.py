"""The truth store on real SQLite: what is durable, what is logged, what is refused."""

import sqlite3
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sqlalchemy import text

from rag_server import factory
from rag_server.config import load_settings
from rag_server.errors import ConfigError, EmbeddingMismatchError, InvalidRequestError, NotFoundError, StoreError
from rag_server.factory import Store
from rag_server.store import documents as documents_module
from rag_server.store.database import Database
from rag_server.store.documents import Documents
from rag_server.store.files import Files
from rag_server.types import Access, Chunk, Cursor, Document, EmbeddedDocument, Hit, NewFile, StoredFile, VectorStore

DIMENSION = 4
# All that the store asks of an embedding model.
EMBEDDER = SimpleNamespace(model_id="m", dimension=DIMENSION, location=None)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return factory.open_store(load_settings({}, data_dir=tmp_path))


@pytest.fixture
def docs(store: Store) -> VectorStore:
    return store.vector_stores.get_or_create("docs", Access(), EMBEDDER)


@pytest.fixture
def file(store: Store, docs: VectorStore) -> StoredFile:
    return store.files.begin(docs, NewFile("/a.jsonl", "a.jsonl", 3))


def embedded(document_id: str, *sentences: str) -> EmbeddedDocument:
    whole = "".join(sentences)
    ends = np.cumsum([len(sentence) for sentence in sentences]).tolist()
    chunks = tuple(Chunk(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True))
    vectors = np.eye(DIMENSION, dtype=np.float32)[: len(chunks)]
    return EmbeddedDocument(Document(document_id, "Title", whole, {"year": 1999}), f"hash of {whole}", chunks, vectors)


def rows(store: Store, query: str) -> list[tuple]:
    with store.database.read() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def test_chunks_are_the_documents_text_at_their_offsets(store: Store, docs: VectorStore, file: StoredFile) -> None:
    """Passages come back with their offsets, attributes and file, ranked as the hits are."""
    store.documents.put(docs, file, [embedded("d", "One. ", "Two. ", "Three.")], bytes_read=0)

    found = store.passages.passages([Hit(3, 0.5), Hit(1, 0.25), Hit(99, 0.1)], Access())

    assert [(p.id, p.text, p.start, p.end, p.rank, p.score) for p in found] == [
        (3, "Three.", 10, 16, 1, 0.5),
        (1, "One. ", 0, 5, 2, 0.25),
    ]
    assert (found[0].document_id, found[0].filename, found[0].attributes) == ("d", "a.jsonl", {"year": 1999})
    assert store.passages.stretch(3, Access()).text == "One. Two. Three."


def test_passages_of_several_queries_are_each_theirs(store: Store, docs: VectorStore, file: StoredFile) -> None:
    """Read together, everyone has those of their own hits in their order, as far as they may see them."""
    store.documents.put(docs, file, [embedded("d", "One. ", "Two. ", "Three.")], bytes_read=0)
    asked = [
        ([Hit(2, 0.5), Hit(1, 0.25)], Access()),
        ([Hit(3, 0.5)], Access("another tenant")),
        ([Hit(1, 0.75), Hit(99, 0.5), Hit(3, 0.25)], Access()),
        ([], Access()),
    ]

    found = store.passages.of_each(asked)

    assert [[(p.id, p.rank, p.score) for p in passages] for passages in found] == [
        [(2, 1, 0.5), (1, 2, 0.25)],
        [],
        [(1, 1, 0.75), (3, 2, 0.25)],
        [],
    ]


def test_replacing_a_document_logs_its_chunks_as_deleted(store: Store, docs: VectorStore, file: StoredFile) -> None:
    """A replaced document's chunk ids are logged and never given out again."""
    store.documents.put(docs, file, [embedded("d", "One. ", "Two.")], bytes_read=0)
    store.documents.put(docs, file, [embedded("d", "Three.")], bytes_read=0)

    page = store.log.read(docs, Cursor(), 10)

    assert [(chunk.id, chunk.text) for chunk in page.added] == [(3, "Three.")]
    assert page.deleted_chunk_ids == (1, 2)
    assert page.cursor == store.log.head(docs) == Cursor(3, 2)
    assert rows(store, "SELECT chunk_id FROM vectors") == [(3,)]
    store.documents.finish(docs, file, fingerprint="x", keep=set(), error=None)
    again = store.files.begin(docs, NewFile("/a.jsonl", "a.jsonl", 3))
    store.documents.put(docs, again, [embedded("e", "Four.")], bytes_read=0)
    assert rows(store, "SELECT id FROM chunks") == [(4,)]


def test_a_vector_takes_little_more_than_its_numbers(tmp_path: Path) -> None:
    """Of 384 numbers of four bytes, two go on a page of SQLite's: none takes a page of its own, and part of another."""
    store = factory.open_store(load_settings({}, data_dir=tmp_path / "size"))
    docs = store.vector_stores.create("docs", Access(), SimpleNamespace(model_id="large", dimension=384, location=None))
    file = store.files.begin(docs, NewFile("/a", "a", 0))
    chunks = tuple(Chunk(0, 1) for _ in range(1000))
    vectors = np.random.default_rng(0).standard_normal((1000, 384)).astype(np.float32)
    store.documents.put(docs, file, [EmbeddedDocument(Document("d", "", "x"), "h", chunks, vectors)], bytes_read=0)
    size = rows(store, "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")[0][0]
    store.database.close()

    assert size / 1000 < 2 * 384 * 4


def test_log_is_read_in_pages(store: Store, docs: VectorStore, file: StoredFile) -> None:
    """Pages hold at most the limit, follow each other without gap, and end with the deletions."""
    store.documents.put(docs, file, [embedded(f"d{n}", f"Text {n}.") for n in range(5)], bytes_read=0)
    store.documents.finish(docs, file, fingerprint="x", keep={"d0", "d2", "d4"}, error=None)

    first = store.log.read(docs, Cursor(), 2)
    second = store.log.read(docs, first.cursor, 2)

    assert ([chunk.id for chunk in first.added], first.deleted_chunk_ids) == ([1, 3], ())
    assert ([chunk.id for chunk in second.added], second.deleted_chunk_ids) == ([5], (2, 4))
    assert second.cursor == store.log.head(docs)


def test_transaction_that_fails_changes_nothing(
    store: Store, docs: VectorStore, file: StoredFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When storing breaks off half-way, the old documents stand and no deletion is logged."""
    store.documents.put(docs, file, [embedded("d", "One. ", "Two.")], bytes_read=0)
    before = rows(store, "SELECT * FROM chunks"), rows(store, "SELECT * FROM deletions")
    insert_documents = documents_module.insert_documents

    def break_off(*arguments: object) -> None:
        insert_documents(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(documents_module, "insert_documents", break_off)
    with pytest.raises(KeyboardInterrupt):
        store.documents.put(docs, file, [embedded("d", "Three.")], bytes_read=0)

    assert (rows(store, "SELECT * FROM chunks"), rows(store, "SELECT * FROM deletions")) == before


def test_unchanged_documents_are_known_by_their_hash(store: Store, docs: VectorStore, file: StoredFile) -> None:
    """Only a stored document with the same hash counts as unchanged."""
    store.documents.put(docs, file, [embedded("a", "One."), embedded("b", "Two.")], bytes_read=0)

    unchanged = store.documents.unchanged(file, {"a": "hash of One.", "b": "other", "c": "hash of Two."})

    assert unchanged == {"a"}


def test_collections_do_not_mix(store: Store, docs: VectorStore, file: StoredFile) -> None:
    """The log of one vector store holds nothing of another, and the same path may be in both."""
    other = store.vector_stores.get_or_create("other", Access(), EMBEDDER)
    file_of_other = store.files.begin(other, NewFile("/a.jsonl", "a.jsonl", 3))
    store.documents.put(docs, file, [embedded("d", "One.")], bytes_read=0)
    store.documents.put(other, file_of_other, [embedded("d", "Two.")], bytes_read=0)
    assert [chunk.text for chunk in store.log.read(other, Cursor(), 10).added] == ["Two."]
    store.documents.finish(other, file_of_other, fingerprint="x", keep=set(), error=None)

    assert [chunk.text for chunk in store.log.read(docs, Cursor(), 10).added] == ["One."]
    assert store.log.read(docs, Cursor(), 10).deleted_chunk_ids == ()
    assert store.log.read(other, Cursor(), 10).deleted_chunk_ids == (2,)


def test_vector_store_is_made_once_and_found_by_name_or_id(store: Store, docs: VectorStore) -> None:
    """A name means one vector store, whose embedding model is fixed."""
    again = store.vector_stores.get_or_create("docs", Access(), EMBEDDER)

    assert again == docs == store.vector_stores.get("docs", Access()) == store.vector_stores.get(docs.id, Access())
    with pytest.raises(EmbeddingMismatchError, match="RAG_EMBEDDER__MODEL"):
        store.vector_stores.get_or_create(
            "docs", Access(), SimpleNamespace(model_id="other", dimension=DIMENSION, location=None)
        )
    with pytest.raises(NotFoundError, match=r"there are: docs\)"):
        store.vector_stores.get("none", Access())


@pytest.mark.parametrize("name", ["", "a/b", "vs_1", "a\nb", "\x00"])
def test_names_that_clash_with_addresses_are_refused(store: Store, name: str) -> None:
    """A collection's name must fit into a model name and an address."""
    with pytest.raises(InvalidRequestError):
        store.vector_stores.get_or_create(name, Access(), EMBEDDER)


def test_writers_wait_for_each_other(store: Store, docs: VectorStore, file: StoredFile) -> None:
    """Two processes' worth of writers on one file both get their work stored."""
    other = Database(str(store.database.url))

    def write(files: Files, name: str) -> None:
        documents = Documents(files._database, files.owner)
        own = files.begin(docs, NewFile(f"/{name}", "x", 0))
        for number in range(20):
            # This one reads before it writes, which fails halfway unless it waits for its turn first.
            files.begin(docs, NewFile(f"/{name}{number}", "x", 0))
            documents.put(docs, own, [embedded(f"{name}{number}", "One.")], bytes_read=0)

    both = zip([store.files, Files(other)], "ab", strict=True)
    threads = [threading.Thread(target=write, args=(files, name)) for files, name in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert rows(store, "SELECT count(*) FROM files") == [(43,)]
    assert rows(store, "SELECT count(*), count(DISTINCT document_id) FROM documents") == [(40, 40)]
    assert rows(store, "SELECT count(*), max(id) FROM chunks") == [(40, 40)]
    other.close()


@pytest.mark.parametrize(
    ("url", "error", "sign"),
    [
        ("postgresql://127.0.0.1:1/db", StoreError, "start PostgreSQL"),
        ("mysql://host/db", ConfigError, "RAG_DATABASE__URL"),
        ("sqlite://", ConfigError, "RAG_DATABASE__URL"),
        ("nonsense", ConfigError, "RAG_DATABASE__URL"),
        ("sqlite:////proc/nothing/rag.db", StoreError, "RAG_DATA_DIR"),
    ],
)
def test_database_that_cannot_be_used_is_refused(url: str, error: type[Exception], sign: str) -> None:
    """A database that is not supported or cannot be made is refused with what to set."""
    with pytest.raises(error, match=sign):
        Database(url)


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """Something else under the database's name is not overwritten."""
    (tmp_path / "rag.db").write_bytes(b"precious" * 1000)

    with pytest.raises(StoreError, match="restore it"):
        Database(f"sqlite:///{tmp_path / 'rag.db'}")
    assert (tmp_path / "rag.db").read_bytes() == b"precious" * 1000


@pytest.mark.parametrize(
    ("statements", "named"),
    [
        (["CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER)", "INSERT INTO facts VALUES ('schema', 99)"], "schema 99"),
        (["CREATE TABLE vector_stores (id TEXT)"], "schema unknown"),
    ],
)
def test_database_of_another_version_is_refused(tmp_path: Path, statements: list[str], named: str) -> None:
    """A store that a later or an earlier version wrote is left alone."""
    with sqlite3.connect(tmp_path / "rag.db") as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()

    with pytest.raises(StoreError, match=named):
        Database(f"sqlite:///{tmp_path / 'rag.db'}")


def test_full_disk_is_a_named_error_and_loses_nothing(store: Store, docs: VectorStore, file: StoredFile) -> None:
    """When the disk is full, storing fails with the remedy, and what was stored before is there."""
    store.documents.put(docs, file, [embedded("a", "One.")], bytes_read=0)
    with store.database.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    with pytest.raises(StoreError, match="free some space"):
        store.documents.put(docs, file, [embedded("b", "x" * 100_000)], bytes_read=0)
    assert rows(store, "SELECT document_id FROM documents") == [("a",)]
