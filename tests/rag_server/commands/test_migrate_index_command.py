"""`rag-server migrate-index`: from FAISS to Milvus and back, interrupted, with the old index deleted or kept."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from indexers import collection_indexes
from indexers.milvus_index import MilvusIndex
from rag_server import factory
from rag_server.commands import diagnosis
from rag_server.config import IndexSettings, Settings, load_settings
from rag_server.jobs import migrate_index
from rag_server.types import Access, Chunk, Document, EmbeddedDocument, LogPage, NewFile
from tests.milvus import milvus_lite
from tests.rag_server.commands.conftest import CommandLine
from tests.stores import DIMENSION, MODEL

CHUNKS = 50
COLLECTIONS = ("docs", "papers")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """A Milvus Lite file; each command of a test has it open in turn."""
    with milvus_lite(tmp_path / "vectors.db") as connection:
        yield Path(connection.url)


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Two collections, searched with FAISS, and where Milvus is."""
    monkeypatch.setenv("RAG_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("RAG_INDEX__URL", str(file))
    monkeypatch.setattr(collection_indexes, "LOG_PAGE_CHUNKS", 7)
    settings = load_settings()
    store = factory.open_store(settings)
    rows = np.random.default_rng(1).standard_normal((CHUNKS, DIMENSION)).astype(np.float32)
    for name in COLLECTIONS:
        vector_store = store.vector_stores.get_or_create(name, Access(), MODEL)
        stored = store.files.begin(vector_store, NewFile("/f", "f", 0))
        for number in range(CHUNKS):
            embedded = EmbeddedDocument(Document(str(number), "", "word"), "h", (Chunk(0, 4),), rows[number : number + 1])
            store.documents.put(vector_store, stored, [embedded], bytes_read=0)
        # The last ten are deleted again.
        keep = {str(number) for number in range(CHUNKS - 10)}
        store.documents.finish(vector_store, stored, fingerprint="x", keep=keep, error=None)
    factory.open_indexes(settings, store).refresh(store.vector_stores.get("docs", Access()))
    store.database.close()
    return settings


def ranking(settings: Settings, kind: str, name: str = "docs") -> list[tuple[int, float]]:
    """The whole collection as an index of that kind ranks it."""
    chosen = settings.model_copy(update={"index": settings.index.model_copy(update={"kind": kind})})
    store = factory.open_store(chosen)
    index = factory.open_indexes(chosen, store).vectors(store.vector_stores.get(name, Access()))
    hits = index.search(np.eye(DIMENSION, dtype=np.float32)[0], 100)
    store.database.close()
    return [(hit.chunk_id, round(hit.score, 4)) for hit in hits]


def test_there_and_back_loses_nothing(command_line: CommandLine, settings: Settings) -> None:
    """All collections are there after each move, ranked alike, and the command says what to set."""
    before = {name: ranking(settings, "faiss", name) for name in COLLECTIONS}
    assert len(before["docs"]) == CHUNKS - 10

    status, out, _ = command_line("migrate-index", "milvus")

    assert status == 0
    assert "docs: 40 vectors in milvus, as many as the store has chunks" in out
    assert "papers: 40 vectors in milvus" in out
    assert "Set RAG_INDEX__KIND=milvus and restart the server" in out
    assert {name: ranking(settings, "milvus", name) for name in COLLECTIONS} == before
    status, out, _ = command_line("migrate-index", "faiss", "--json")
    assert status == 0
    numbers = {found["collection"]: found["vectors"] for found in json.loads(out)["collections"]}
    assert numbers == {"docs": 40, "papers": 40}
    assert {name: ranking(settings, "faiss", name) for name in COLLECTIONS} == before


def test_interrupted_move_goes_on(command_line: CommandLine, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was applied before the end is not applied again, and nothing is missing."""
    pages: list[int] = []
    whole = MilvusIndex._put

    def counted(index: MilvusIndex, client: object, chunks: list) -> None:
        if len(pages) == 3:
            pages.append(0)
            raise KeyboardInterrupt
        pages.append(len(chunks))
        whole(index, client, chunks)

    monkeypatch.setattr(MilvusIndex, "_put", counted)
    assert command_line("migrate-index", "milvus")[0] == 130
    assert len(ranking_without_following(settings)) > 0
    assert command_line("migrate-index", "milvus")[0] == 0

    assert sum(pages) == 2 * (CHUNKS - 10)
    assert ranking(settings, "milvus") == ranking(settings, "faiss")


def ranking_without_following(settings: Settings) -> list[int]:
    """What an index in Milvus holds of the collection that is moved first."""
    in_milvus = settings.model_copy(update={"index": settings.index.model_copy(update={"kind": "milvus"})})
    store = factory.open_store(in_milvus)
    indexes = factory.open_indexes(in_milvus, store)
    index = indexes._open_vectors(store.vector_stores.newest(1)[0])
    store.database.close()
    return [hit.chunk_id for hit in index.search(np.eye(DIMENSION, dtype=np.float32)[0], 100)]


def test_index_that_lost_vectors_is_built_once_more(command_line: CommandLine, settings: Settings) -> None:
    """Fewer vectors than the store has chunks, whatever the cursor says, are found out and built again."""
    assert command_line("migrate-index", "milvus")[0] == 0
    in_milvus = settings.model_copy(update={"index": settings.index.model_copy(update={"kind": "milvus"})})
    store = factory.open_store(in_milvus)
    index = factory.open_indexes(in_milvus, store).vectors(store.vector_stores.get("docs", Access()))
    with index._client() as client:
        index._delete(client, [hit.chunk_id for hit in index.search(np.eye(DIMENSION, dtype=np.float32)[0], 5)])
    store.database.close()
    assert len(ranking(settings, "milvus")) == CHUNKS - 15

    status, out, _ = command_line("migrate-index", "milvus")

    assert status == 0
    assert "docs: 40 vectors in milvus" in out
    assert ranking(settings, "milvus") == ranking(settings, "faiss")


def test_vectors_that_do_not_arrive_are_an_error(
    command_line: CommandLine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never is a move called complete that is not."""
    monkeypatch.setattr(MilvusIndex, "_put", lambda *_: None)

    status, _, err = command_line("migrate-index", "milvus")

    assert status == 1
    assert "does not hold the vectors that were put into it" in err


def test_old_index_is_deleted_when_asked_for(command_line: CommandLine, settings: Settings, file: Path) -> None:
    """--drop-old asks first, so that without anybody to ask nothing is begun; then only the other kind is deleted."""

    def folders() -> list[Path]:
        return list((settings.data_dir / "indexes").glob("*/vectors-*"))

    status, _, err = command_line("migrate-index", "milvus", "--drop-old")
    assert (status, "Nobody is there to ask: add --yes" in err) == (1, True)
    assert folders()

    status, out, _ = command_line("migrate-index", "milvus", "--drop-old", "--yes")
    assert (status, "the vector indexes in faiss are deleted" in out) == (0, True)
    assert not folders()
    assert ranking(settings, "milvus") == ranking(settings, "faiss")

    status, out, _ = command_line("migrate-index", "faiss", "--drop-old", "--yes")
    assert (status, "the vector indexes in milvus are deleted" in out) == (0, True)
    assert folders()


def test_faiss_is_saved_on_the_way(command_line: CommandLine, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A move to FAISS that is interrupted goes on from the last save."""
    monkeypatch.setattr(migrate_index, "CHUNKS_PER_SAVE", 10)
    applied: list[LogPage] = []
    whole = collection_indexes.FaissIndex.apply

    def interrupted(index: collection_indexes.FaissIndex, page: LogPage) -> None:
        applied.append(page)
        if len(applied) == 4:
            raise KeyboardInterrupt
        whole(index, page)

    monkeypatch.setattr(collection_indexes.FaissIndex, "apply", interrupted)
    assert command_line("migrate-index", "faiss")[0] == 130
    del applied[4:]
    assert command_line("migrate-index", "faiss")[0] == 0

    # Two pages of seven chunks were saved of the collection that came first.
    assert applied[4].added[0].id == applied[2].added[0].id
    assert ranking(settings, "faiss", "papers") == ranking(settings, "milvus", "papers")


def test_move_to_nowhere_names_the_setting(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an address, the error names the setting."""
    monkeypatch.delenv("RAG_INDEX__URL")

    status, _, err = command_line("migrate-index", "milvus")

    assert status == 1
    assert "milvus needs RAG_INDEX__URL" in err


def test_doctor_tells_of_milvus(command_line: CommandLine, settings: Settings) -> None:
    """It names the version and the vectors of each collection, and of a server that is down what to do."""
    in_milvus = settings.model_copy(update={"index": settings.index.model_copy(update={"kind": "milvus"})})
    told = asyncio.run(diagnosis._vector_index(in_milvus))
    assert "docs: 40 vectors of 4 dimensions in Milvus milvus_lite" in told

    down = settings.model_copy(
        update={"index": IndexSettings(kind="milvus", url="http://127.0.0.1:9")},
    )
    finding = asyncio.run(diagnosis._look("vector index", diagnosis._vector_index, down))
    assert not finding.ok
    assert "start it, or correct RAG_INDEX__URL" in finding.detail
