"""The derived indexes follow the truth: a random history of changes against a dictionary."""

import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from indexers import collection_indexes
from indexers.collection_indexes import CollectionIndexes
from rag_server import factory
from rag_server.config import load_settings
from rag_server.types import Access, Chunk, Cursor, Document, EmbeddedDocument, LoggedChunk, LogPage, NewFile, VectorStore

DIMENSION = 4
# All that the store asks of an embedding model.
EMBEDDER = SimpleNamespace(model_id="m", dimension=DIMENSION, location=None)
WORDS = ["alpha", "beta", "gamma", "delta"]
IDS = st.sampled_from(["a", "b", "c", "d", "e"])


class History(RuleBasedStateMachine):
    """Stores, replaces and removes documents, restarts and loses snapshots; the model is a dictionary of texts."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = factory.open_store(load_settings({}, data_dir=self.folder))
        self.vector_store = self.store.vector_stores.get_or_create("docs", Access(), EMBEDDER)
        self.file = self.store.files.begin(self.vector_store, NewFile("/f", "f", 0))
        self.model: dict[str, list[str]] = {}
        self.indexes = CollectionIndexes(self.folder / "indexes", self.store.log)

    @rule(id_=IDS, words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3, unique=True))
    def put(self, id_: str, words: list[str]) -> None:
        text = "".join(f"{word:<6}" for word in words)
        chunks = tuple(Chunk(6 * n, 6 * n + 6) for n in range(len(words)))
        vectors = np.stack([np.eye(DIMENSION, dtype=np.float32)[WORDS.index(word)] for word in words])
        embedded = EmbeddedDocument(Document(id_, "", text), text, chunks, vectors)
        self.store.documents.put(self.vector_store, self.file, [embedded], bytes_read=0)
        self.model[id_] = words

    @rule(kept=st.sets(IDS))
    def keep_only(self, kept: set[str]) -> None:
        self.store.documents.finish(self.vector_store, self.file, fingerprint="x", keep=kept, error=None)
        self.model = {id_: words for id_, words in self.model.items() if id_ in kept}
        self.file = self.store.files.begin(self.vector_store, NewFile("/f", "f", 0))

    @rule()
    def save(self) -> None:
        self.indexes.refresh(self.vector_store)

    @rule(lose=st.sampled_from(["nothing", "vectors", "words", "both"]))
    def restart(self, lose: str) -> None:
        folder = self.folder / "indexes" / self.vector_store.id
        if lose in ("vectors", "both"):
            for snapshot in folder.glob("vectors-*"):
                shutil.rmtree(snapshot)
        if lose in ("words", "both"):
            shutil.rmtree(folder / "bm25", ignore_errors=True)
        self.indexes = CollectionIndexes(self.folder / "indexes", self.store.log)

    @invariant()
    def both_indexes_hold_what_is_stored(self) -> None:
        expected = {word: sorted(id_ for id_, words in self.model.items() if word in words) for word in WORDS}
        for number, word in enumerate(WORDS):
            near = self.indexes.vectors(self.vector_store).search(np.eye(DIMENSION, dtype=np.float32)[number], 100)
            named = self.indexes.lexical(self.vector_store).search(word, 100)
            for hits in ([hit for hit in near if hit.score > 0.5], named):
                found = sorted(passage.document_id for passage in self.store.passages.passages(hits, Access()))
                assert found == expected[word]

    def teardown(self) -> None:
        self.store.database.close()
        shutil.rmtree(self.folder)


TestHistory = History.TestCase
TestHistory.settings = hypothesis_settings(max_examples=15, stateful_step_count=12, deadline=None)


def test_tail_longer_than_a_page_is_replayed(tmp_path: Path, monkeypatch: object) -> None:
    """A log of several pages is followed to its end."""
    monkeypatch.setattr(collection_indexes, "LOG_PAGE_CHUNKS", 3)
    store = factory.open_store(load_settings({}, data_dir=tmp_path))
    docs = store.vector_stores.get_or_create("docs", Access(), EMBEDDER)
    file = store.files.begin(docs, NewFile("/f", "f", 0))
    vectors = np.eye(DIMENSION, dtype=np.float32)
    for number in range(10):
        embedded = EmbeddedDocument(Document(str(number), "", "word"), "h", (Chunk(0, 4),), vectors[:1])
        store.documents.put(docs, file, [embedded], bytes_read=0)
    indexes = CollectionIndexes(tmp_path / "indexes", store.log)

    assert len(indexes.vectors(docs)) == 10
    assert len(indexes.lexical(docs).search("word", 100)) == 10


DOCS = VectorStore("vs_1", "", "docs", 0, 1, "m", None, DIMENSION)


class ListLog:
    """A log in memory that counts what is read."""

    def __init__(self, chunks: int) -> None:
        self.chunks = {
            id_: LoggedChunk(id_, "", "word", np.eye(DIMENSION, dtype=np.float32)[0]) for id_ in range(1, chunks + 1)
        }
        self.deleted: list[int] = []
        self.reads: list[Cursor] = []

    def head(self, _: VectorStore) -> Cursor:
        return Cursor(max(self.chunks, default=0), len(self.deleted))

    def read(self, _: VectorStore, after: Cursor, limit: int) -> LogPage:
        self.reads.append(after)
        time.sleep(0.001)
        added = [chunk for id_, chunk in sorted(self.chunks.items()) if id_ > after.chunk_id][:limit]
        if len(added) == limit:
            return LogPage(tuple(added), (), Cursor(added[-1].id, after.deletion_id))
        cursor = Cursor(max([after.chunk_id, *(chunk.id for chunk in added)]), len(self.deleted))
        return LogPage(tuple(added), tuple(self.deleted[after.deletion_id :]), cursor)

    def delete(self, id_: int) -> None:
        del self.chunks[id_]
        self.deleted.append(id_)


def found(indexes: CollectionIndexes) -> tuple[list[int], list[int]]:
    near = indexes.vectors(DOCS).search(np.eye(DIMENSION, dtype=np.float32)[0], 1000)
    named = indexes.lexical(DOCS).search("word", 1000)
    return sorted(hit.chunk_id for hit in near), sorted(hit.chunk_id for hit in named)


@pytest.mark.parametrize("reopened", [False, True])
@pytest.mark.parametrize("lost", ["chunks", "deletions"])
def test_index_ahead_of_the_store_is_rebuilt(
    tmp_path: Path, lost: str, reopened: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """When the store was restored from a backup, what it does not know is found no more, and there is a warning."""
    log = ListLog(10)
    indexes = CollectionIndexes(tmp_path, log)
    if lost == "deletions":
        log.delete(3)
    indexes.refresh(DOCS)
    log.chunks, log.deleted = ListLog(7 if lost == "chunks" else 10).chunks, []
    if reopened:
        indexes = CollectionIndexes(tmp_path, log)

    assert found(indexes) == ([*log.chunks], [*log.chunks])
    assert capfd.readouterr().out.count("ahead of the store and will be rebuilt") == 2
    indexes.save()
    assert found(CollectionIndexes(tmp_path, log)) == ([*log.chunks], [*log.chunks])


def test_deleting_the_newest_chunk_rebuilds_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The store's newest chunk is then older than what the index followed, and that is no reason to doubt the index."""
    log = ListLog(10)
    indexes = CollectionIndexes(tmp_path, log)
    assert found(indexes) == ([*range(1, 11)], [*range(1, 11)])
    log.delete(10)
    log.delete(9)
    log.reads.clear()

    for _ in range(3):
        assert found(indexes) == ([*range(1, 9)], [*range(1, 9)])
    assert len(log.reads) == 2
    assert "ahead" not in capfd.readouterr().out


def test_several_searches_follow_the_log_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches at the same time do not read the same pages twice."""
    monkeypatch.setattr(collection_indexes, "LOG_PAGE_CHUNKS", 5)
    log = ListLog(50)
    indexes = CollectionIndexes(tmp_path, log)
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda _: found(indexes), range(16)))

    assert all(result == ([*range(1, 51)], [*range(1, 51)]) for result in results)
    assert sorted(log.reads) == sorted(2 * [Cursor(after, 0) for after in range(0, 51, 5) if after < 50])


def test_forgotten_vector_store_leaves_nothing(tmp_path: Path) -> None:
    """The folder of a deleted vector store goes, and one of the same name begins anew."""
    log = ListLog(10)
    indexes = CollectionIndexes(tmp_path, log)
    indexes.refresh(DOCS)
    indexes.forget(DOCS.id)
    assert list(tmp_path.iterdir()) == []
    indexes.save()
    indexes.forget("vs_unknown")
    assert list(tmp_path.iterdir()) == []

    log.chunks = ListLog(3).chunks
    assert found(indexes) == ([1, 2, 3], [1, 2, 3])


def test_index_is_organised_in_the_background(tmp_path: Path) -> None:
    """A search does not wait for the reorganisation that it brings about."""
    log = ListLog(2500)
    indexes = CollectionIndexes(tmp_path, log, kind="ivf_sq8")
    index = indexes.vectors(DOCS)
    for _ in range(200):
        if not index.needs_maintenance:
            break
        time.sleep(0.05)

    assert index.kind == "ivf_sq8"
    assert len(index.search(np.eye(DIMENSION, dtype=np.float32)[0], 2500)) == 2500


END_WHILE_ORGANISING = """
import sys, pathlib, threading, time, numpy as np
from indexers.collection_indexes import CollectionIndexes
from rag_server.types import Cursor, LoggedChunk, LogPage, VectorStore

rows = np.random.default_rng(1).standard_normal((60_000, 64), dtype=np.float32)

class Log:
    def head(self, _):
        return Cursor(len(rows), 0)

    def read(self, _, after, limit):
        numbers = range(after.chunk_id + 1, min(after.chunk_id + limit, len(rows)) + 1)
        added = tuple(LoggedChunk(n, "", "", rows[n - 1]) for n in numbers)
        return LogPage(added, (), Cursor(numbers[-1] if numbers else after.chunk_id, 0))

indexes = CollectionIndexes(pathlib.Path(sys.argv[1]), Log(), kind="hnsw")
index = indexes.vectors(VectorStore("vs_1", "", "docs", 0, 1, "m", None, 64))
time.sleep(0.5)
assert any(thread.name == "index-maintenance" for thread in threading.enumerate())
print("ending", flush=True)
"""


def test_process_does_not_wait_for_the_reorganisation(tmp_path: Path) -> None:
    """A process ends soon though an index is being organised anew, and without a crash."""
    command = [sys.executable, "-c", END_WHILE_ORGANISING, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ending\n"
        started = time.monotonic()
        assert process.wait(60) == 0
    assert time.monotonic() - started < 5
