"""The indexing process: which uploads go together, and whose fault is whose."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import text

from eval.crash.work import EMBEDDERS, HashEmbedder
from rag_server import factory
from rag_server.commands.indexing import building_ingest
from rag_server.config import Settings
from rag_server.factory import Store
from rag_server.jobs import worker
from rag_server.jobs.ingest import Ingest
from rag_server.types import Access, NewFile, StoredFile, Vectors, VectorStore

ME = Access()


class NotingEmbedder(HashEmbedder):
    """A cheap model that notes what it is given together, and calls `before` each time."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        super().__init__("a")
        self.calls: list[list[str]] = []
        self._before = before

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        self.calls.append(list(texts))
        self._before()
        return super().embed_passages(texts)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    opened = factory.open_store(settings)
    yield opened
    opened.database.close()


@pytest.fixture
def docs(store: Store) -> VectorStore:
    return store.vector_stores.create("docs", ME, EMBEDDERS["hash-a"])


@pytest.fixture
def building(settings: Settings, store: Store) -> Iterator[Callable[[NotingEmbedder], Ingest]]:
    with building_ingest(settings, store) as build:
        yield build


def queue(store: Store, vector_store: VectorStore, name: str) -> StoredFile:
    sent = store.uploads.put(ME, filename=name, purpose="assistants", content=[f"The text of {name}.".encode()])
    return store.files.enqueue(vector_store, NewFile(f"upload:{sent.id}", name, sent.bytes, id=sent.id))


def run(
    store: Store, build: Callable[[NotingEmbedder], Ingest], embedder: NotingEmbedder, *, portions: int = 1
) -> list[StoredFile]:
    """Index `portions` times what may go together; return the files in their order."""
    for _ in range(portions):
        first = store.files.lease()
        assert first is not None
        worker.index_uploads(store, first, lambda _: embedder, build)
    return [file for vector_store in store.vector_stores.list(ME) for file in store.files.readable(vector_store, ME)]


def outcomes(files: Sequence[StoredFile]) -> dict[str, str]:
    return {file.filename: file.status for file in files}


def test_uploads_that_wait_are_indexed_together(
    store: Store, docs: VectorStore, building: Callable[[NotingEmbedder], Ingest]
) -> None:
    """Many small files are few transactions, and none of them is lost or indexed twice."""
    names = [f"{number}.txt" for number in range(10)]
    for name in names:
        queue(store, docs, name)
    embedder = NotingEmbedder()

    files = run(store, building, embedder)

    assert outcomes(files) == dict.fromkeys(names, "completed")
    assert sorted(text for call in embedder.calls for text in call) == sorted(f"{n[0]}\nThe text of {n}." for n in names)
    assert store.files.lease() is None


def test_so_many_are_on_their_way_at_most(
    store: Store, docs: VectorStore, building: Callable[[NotingEmbedder], Ingest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others wait their turn, so that a crash does not have them all wait for it."""
    monkeypatch.setattr(worker, "MAX_TOGETHER", 3)
    for number in range(5):
        queue(store, docs, f"{number}.txt")

    after_one = outcomes(run(store, building, NotingEmbedder()))
    after_two = outcomes(run(store, building, NotingEmbedder()))

    assert list(after_one.values()) == ["completed"] * 3 + ["queued"] * 2
    assert list(after_two.values()) == ["completed"] * 5


def test_a_file_that_cannot_be_read_fails_alone(
    store: Store, docs: VectorStore, building: Callable[[NotingEmbedder], Ingest]
) -> None:
    """A damaged upload and one of no known format are named; those before and after them are indexed."""
    for name in ("a.txt", "damaged.txt", "b.txt", "strange.bin", "c.txt"):
        queue(store, docs, name)
    with store.database.write() as connection:
        damaged = "(SELECT id FROM uploads WHERE filename = 'damaged.txt')"
        connection.execute(text(f"UPDATE upload_parts SET checksum = 0 WHERE upload_id = {damaged}"))
        strange = "(SELECT id FROM uploads WHERE filename = 'strange.bin')"
        connection.execute(text(f"DELETE FROM upload_parts WHERE upload_id = {strange}"))

    files = run(store, building, NotingEmbedder())

    assert outcomes(files) == {
        "a.txt": "completed",
        "damaged.txt": "failed",
        "b.txt": "completed",
        "strange.bin": "failed",
        "c.txt": "completed",
    }
    assert {file.filename: file.error_code for file in files if file.error} == {
        "damaged.txt": "server_error",
        "strange.bin": "invalid_file",
    }


def test_when_all_of_it_fails_it_is_recorded_for_each(
    store: Store, docs: VectorStore, building: Callable[[NotingEmbedder], Ingest]
) -> None:
    """What is stored already stays completed; what was on its way says why it failed; what waits, waits on."""
    for name in ("a.txt", "b.txt"):
        queue(store, docs, name)

    def fail() -> None:
        raise OSError("the model is gone")

    files = run(store, building, NotingEmbedder(fail))

    assert files[0].status == "failed"
    assert {file.status for file in files} <= {"failed", "queued"}
    assert files[0].error == "the model is gone"


def test_uploads_of_another_collection_go_on_their_own(
    store: Store, docs: VectorStore, building: Callable[[NotingEmbedder], Ingest]
) -> None:
    """The queue is worked on in its order, each collection with its own model."""
    other = store.vector_stores.create("other", ME, EMBEDDERS["hash-a"])
    for vector_store, name in ((docs, "a.txt"), (other, "b.txt"), (docs, "c.txt")):
        queue(store, vector_store, name)

    after_one = outcomes(run(store, building, NotingEmbedder()))
    after_three = outcomes(run(store, building, NotingEmbedder(), portions=2))

    assert after_one == {"a.txt": "completed", "b.txt": "queued", "c.txt": "queued"}
    assert set(after_three.values()) == {"completed"}


def test_nothing_is_left_of_the_files_bodies(
    store: Store,
    docs: VectorStore,
    building: Callable[[NotingEmbedder], Ingest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each lies in a temporary folder while it is read, and no longer."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("a.txt", "b.txt"):
        queue(store, docs, name)
    seen: list[set[str]] = []

    run(store, building, NotingEmbedder(lambda: seen.append({path.name for path in tmp_path.rglob("*.txt")})))

    assert all(len(names) <= 1 for names in seen)
    assert list(tmp_path.glob("rag-upload-*")) == []
