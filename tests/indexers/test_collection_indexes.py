"""The derived indexes follow the truth: a random history of changes against a dictionary."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from indexers import collection_indexes
from indexers.collection_indexes import CollectionIndexes
from rag_server import factory
from rag_server.config import load_settings
from rag_server.types import Chunk, Document, EmbeddedDocument

DIMENSION = 4
WORDS = ["alpha", "beta", "gamma", "delta"]
IDS = st.sampled_from(["a", "b", "c", "d", "e"])


class History(RuleBasedStateMachine):
    """Stores, replaces and removes documents, restarts and loses snapshots; the model is a dictionary of texts."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = factory.open_store(load_settings({}, data_dir=self.folder))
        self.vector_store = self.store.vector_stores.get_or_create("docs", embedding_model="m", dimension=DIMENSION)
        self.file = self.store.files.begin(self.vector_store, "/f", filename="f", num_bytes=0)
        self.model: dict[str, list[str]] = {}
        self.indexes = CollectionIndexes(self.folder / "indexes", self.store.log)

    @rule(id_=IDS, words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3, unique=True))
    def put(self, id_: str, words: list[str]) -> None:
        text = "".join(f"{word:<6}" for word in words)
        chunks = tuple(Chunk(6 * n, 6 * n + 6) for n in range(len(words)))
        vectors = np.stack([np.eye(DIMENSION, dtype=np.float32)[WORDS.index(word)] for word in words])
        embedded = EmbeddedDocument(Document(id_, "", text), text, chunks, vectors)
        self.store.files.put_documents(self.vector_store, self.file, [embedded])
        self.model[id_] = words

    @rule(kept=st.sets(IDS))
    def keep_only(self, kept: set[str]) -> None:
        self.store.files.finish(self.vector_store, self.file, fingerprint="x", keep=kept)
        self.model = {id_: words for id_, words in self.model.items() if id_ in kept}

    @rule()
    def save(self) -> None:
        self.indexes.refresh(self.vector_store)

    @rule(lose=st.sampled_from(["nothing", "vectors", "words", "both"]))
    def restart(self, lose: str) -> None:
        folder = self.folder / "indexes" / self.vector_store.id
        if lose in ("vectors", "both"):
            for snapshot in folder.glob("*.faiss"):
                snapshot.unlink()
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
                found = sorted(passage.document_id for passage in self.store.passages.passages(hits))
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
    docs = store.vector_stores.get_or_create("docs", embedding_model="m", dimension=DIMENSION)
    file = store.files.begin(docs, "/f", filename="f", num_bytes=0)
    vectors = np.eye(DIMENSION, dtype=np.float32)
    for number in range(10):
        embedded = EmbeddedDocument(Document(str(number), "", "word"), "h", (Chunk(0, 4),), vectors[:1])
        store.files.put_documents(docs, file, [embedded])
    indexes = CollectionIndexes(tmp_path / "indexes", store.log)

    assert len(indexes.vectors(docs)) == 10
    assert len(indexes.lexical(docs).search("word", 100)) == 10
