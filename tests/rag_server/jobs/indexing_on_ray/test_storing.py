"""What is stored of files that a cluster reads, whose work is done here in the tests' own process, in any order."""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from eval.crash.work import HashEmbedder
from indexers.loaders.dispatch import load
from rag_server import factory
from rag_server.config import Settings, load_settings
from rag_server.errors import ClusterUnavailableError
from rag_server.jobs.indexing_on_ray.embedding import with_vectors
from rag_server.jobs.indexing_on_ray.parts import FileToRead, Parts
from rag_server.jobs.indexing_on_ray.reading import RemoteReader
from rag_server.jobs.indexing_on_ray.storing import ClusterIngest, Work
from rag_server.jobs.ingest import Ingest, IngestReport, Source
from rag_server.jobs.worker import NoProgress
from rag_server.protocols import Embedder
from rag_server.store.verification import verify
from rag_server.types import Access, NewFile

Stored = dict[tuple[str, str], tuple[str, list[tuple[str, bytes]]]]


class CountingEmbedder(HashEmbedder):
    """Counts the passages that it embeds."""

    num_passages = 0

    def embed_passages(self, texts: Sequence[str]) -> Any:
        self.num_passages += len(texts)
        return super().embed_passages(texts)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"RAG_CHUNKING__MAX_TOKENS": "16"}, data_dir=tmp_path / "data")


@pytest.fixture
def store(settings: Settings) -> Iterator[factory.Store]:
    opened = factory.open_store(settings)
    yield opened
    opened.database.close()


def working(settings: Settings, embedder: Embedder, *, seed: int = 0, portion: int = 3, until: int | None = None) -> Work:
    """Do the work of a cluster: portions of parts in an order of their own; it dies after `until` of them."""
    reader = RemoteReader(load=load, cut_text=factory.build_chunker(settings), embedder=embedder)

    def work(files: Sequence[FileToRead]) -> Iterator[Parts]:
        parts = [(file.number, part) for file in files for part in reader.parts(file)]
        random.Random(seed).shuffle(parts)
        for start in range(0, len(parts), portion)[:until]:
            yield with_vectors(embedder, parts[start : start + portion])
        if until is not None:
            raise ClusterUnavailableError("the cluster failed")

    return work


def sources(*paths: Path) -> list[Source]:
    return [Source(path, NewFile(str(path), path.name, path.stat().st_size if path.exists() else 0)) for path in paths]


def index(settings: Settings, store: factory.Store, embedder: Embedder, *paths: Path, work: Work | None = None) -> IngestReport:
    vector_store = store.vector_stores.get_or_create("docs", Access(), embedder)
    ingest = ClusterIngest(store, vector_store, settings.chunking, NoProgress())
    return ingest.run(sources(*paths), work or working(settings, embedder))


def stored(store: factory.Store, collection: str = "docs") -> Stored:
    """Every document by its file and id, with its text and its chunks with their vectors, after checks of the store itself."""
    verify(store.database)
    found: Stored = {}
    query = (
        "SELECT f.filename, d.document_id, d.text AS whole, c.text, v.vector "
        "FROM files f JOIN documents d ON d.file_key = f.key JOIN chunks c ON c.document_key = d.id "
        "JOIN vectors v ON v.chunk_id = c.id JOIN vector_stores s ON s.id = f.vector_store_id "
        "WHERE s.name = :name ORDER BY d.id, c.start"
    )
    with store.database.read() as connection:
        for row in connection.execute(text(query), {"name": collection}):
            found.setdefault((row.filename, row.document_id), (row.whole, []))[1].append((row.text, row.vector))
    return found


def files_of(store: factory.Store, collection: str) -> set[tuple[str | None, ...]]:
    files = store.files.readable(store.vector_stores.get(collection, Access()), Access())
    return {(file.filename, file.status, file.error, file.fingerprint) for file in files}


def write_rows(path: Path, rows: dict[str, str]) -> Path:
    path.write_text("".join(json.dumps({"_id": id_, "title": f"The {id_}", "text": said}) + "\n" for id_, said in rows.items()))
    return path


def write_corpus(folder: Path) -> list[Path]:
    """Files of some formats, two of them with faults, one that is none and one that is not there."""
    rows = {f"r{number}": f"Animal {number} sleeps. " * (number % 7 + 1) for number in range(40)}
    paths = [write_rows(folder / "rows.jsonl", rows), folder / "notes.md", folder / "same.txt"]
    paths[1].write_text("# Cats\n\nThey sleep all day long, as nobody else does. " * 5 + "\n\n## Dogs\n\nThey bark.")
    paths[2].write_text("Owls hoot.")
    with (folder / "rows.jsonl").open("a") as file:
        file.write('nonsense\n{"_id": "last", "text": "Bees hum."}\n{"_id": "r3", "text": "Again."}\n')
    (folder / "strange.xyz").write_bytes(b"\x00\x01")
    return [*paths, folder / "strange.xyz", folder / "missing.txt"]


@pytest.mark.parametrize("seed", range(3))
def test_the_same_is_stored_as_without_a_cluster(settings: Settings, store: factory.Store, tmp_path: Path, seed: int) -> None:
    """In whatever order the parts come, documents, chunks, vectors and the report are those of a run in one process."""
    paths, embedder = write_corpus(tmp_path), HashEmbedder("a")
    ingest = Ingest(
        files=store.files,
        documents=store.documents,
        embedder=embedder,
        load=load,
        cut_text=factory.build_chunker(settings),
        chunking=settings.chunking,
    )
    expected = ingest.run(store.vector_stores.get_or_create("plain", Access(), embedder), sources(*paths), NoProgress())

    report = index(settings, store, embedder, *paths, work=working(settings, embedder, seed=seed))

    assert stored(store) == stored(store, "plain")
    assert len(stored(store)) == 43
    assert report.failed == expected.failed
    assert len(report.failed[str(paths[0])]) == 2
    assert sorted(report.indexed) == sorted(expected.indexed)
    assert (report.num_documents, report.num_chunks) == (expected.num_documents, expected.num_chunks)
    assert files_of(store, "docs") == files_of(store, "plain")


def test_a_second_run_reads_nothing(settings: Settings, store: factory.Store, tmp_path: Path) -> None:
    """Unchanged files are not sent to the cluster at all, but for one with a faulty row, whose documents are not embedded."""
    paths, embedder = write_corpus(tmp_path), CountingEmbedder("a")
    index(settings, store, embedder, *paths)
    before, embedder.num_passages = stored(store), 0
    asked: list[str] = []

    def work(files: Sequence[FileToRead]) -> Iterator[Parts]:
        asked.extend(file.path.name for file in files)
        return working(settings, embedder)(files)

    report = index(settings, store, embedder, *paths, work=work)

    assert asked == ["rows.jsonl", "strange.xyz"]
    assert report.unchanged == [str(paths[1]), str(paths[2])]
    assert (report.num_chunks, embedder.num_passages) == (0, 0)
    assert stored(store) == before


def test_a_changed_file_is_embedded_where_it_changed(settings: Settings, store: factory.Store, tmp_path: Path) -> None:
    """New and changed rows are embedded, those that are gone are removed."""
    path, embedder = tmp_path / "rows.jsonl", CountingEmbedder("a")
    index(settings, store, embedder, write_rows(path, {"a": "Cats sleep.", "b": "Dogs bark.", "c": "Owls hoot."}))
    embedder.num_passages = 0

    index(settings, store, embedder, write_rows(path, {"a": "Cats sleep.", "b": "Dogs howl.", "d": "Bees hum."}))

    assert embedder.num_passages == 2
    assert {name: whole for (_, name), (whole, _) in stored(store).items()} == {
        "a": "Cats sleep.",
        "b": "Dogs howl.",
        "d": "Bees hum.",
    }


@pytest.mark.parametrize("until", [0, 1, 5, 12])
def test_a_run_that_ended_is_completed_by_the_next(
    settings: Settings, store: factory.Store, tmp_path: Path, until: int
) -> None:
    """What was stored is neither embedded nor stored again; in the end everything is there once."""
    rows = {f"r{number}": f"Animal {number} sleeps." for number in range(40)}
    paths = [write_rows(tmp_path / "rows.jsonl", rows), *(tmp_path / f"{number}.txt" for number in range(10))]
    for path in paths[1:]:
        path.write_text(f"Note {path.stem}.")
    embedder = CountingEmbedder("a")
    with pytest.raises(ClusterUnavailableError):
        index(settings, store, embedder, *paths, work=working(settings, embedder, until=until))
    before, embedder.num_passages = stored(store), 0

    report = index(settings, store, embedder, *paths)

    assert len(before) <= 3 * until
    assert embedder.num_passages == 50 - len(before)
    assert len(report.indexed) + len(report.unchanged) == 11
    after = stored(store)
    assert len(after) == 50
    assert all(len(chunks) == 1 for _, chunks in after.values())
    assert before.items() <= after.items()


def test_a_moved_file_is_not_read(settings: Settings, store: factory.Store, tmp_path: Path) -> None:
    """A file that lies elsewhere now is known by its bytes."""
    path, embedder = write_rows(tmp_path / "rows.jsonl", {"a": "Cats sleep."}), CountingEmbedder("a")
    index(settings, store, embedder, path)
    moved = path.rename(tmp_path / "moved.jsonl")

    report = index(settings, store, embedder, moved)

    assert (report.moved, report.unchanged) == ([f"{path} -> {moved}"], [str(moved)])
    assert embedder.num_passages == 1
    assert list(stored(store)) == [("moved.jsonl", "a")]


def test_a_file_that_became_unreadable_keeps_what_was_stored(settings: Settings, store: factory.Store, tmp_path: Path) -> None:
    """When a file turns into nonsense, its last good version stays, and it is marked as failed."""
    path = tmp_path / "doc.txt"
    path.write_text("Cats sleep all day.")
    index(settings, store, HashEmbedder("a"), path)
    path.write_bytes(b"\x00\x01\x02")

    report = index(settings, store, HashEmbedder("a"), path)

    assert list(report.failed) == [str(path)]
    assert report.indexed == []
    assert stored(store)["doc.txt", "doc.txt"][0] == "Cats sleep all day."
    file = store.files.find(store.vector_stores.get("docs", Access()), str(path))
    assert file is not None
    assert (file.status, file.error_code) == ("failed", "invalid_file")


def test_a_file_that_is_deleted_meanwhile_is_left_out(settings: Settings, store: factory.Store, tmp_path: Path) -> None:
    """Nothing more is stored of it, and the others are indexed."""
    rows = {f"r{number}": f"Animal {number} sleeps." for number in range(9)}
    doomed, other = write_rows(tmp_path / "doomed.jsonl", rows), write_rows(tmp_path / "other.jsonl", rows)
    embedder = HashEmbedder("a")

    def work(files: Sequence[FileToRead]) -> Iterator[Parts]:
        for number, parts in enumerate(working(settings, embedder, portion=4)(files)):
            yield parts
            vector_store = store.vector_stores.get("docs", Access())
            file = store.files.find(vector_store, str(doomed))
            if number == 1 and file is not None:
                store.files.delete(vector_store, file)

    report = index(settings, store, embedder, doomed, other, work=work)

    assert (list(report.failed), report.indexed) == ([str(doomed)], [str(other)])
    assert {filename for filename, _ in stored(store)} == {"other.jsonl"}


def test_a_part_that_does_not_come_is_missed(settings: Settings, store: factory.Store, tmp_path: Path) -> None:
    """A file that did not come back whole is not taken for complete, and the run says so."""
    path, embedder = write_rows(tmp_path / "rows.jsonl", {"a": "Cats sleep.", "b": "Dogs bark."}), HashEmbedder("a")

    def work(files: Sequence[FileToRead]) -> Iterator[Parts]:
        for parts in working(settings, embedder)(files):
            yield parts[1:]

    with pytest.raises(ClusterUnavailableError, match=r"1 files did not come back whole \(.*rows\.jsonl\)"):
        index(settings, store, embedder, path, work=work)
    file = store.files.find(store.vector_stores.get("docs", Access()), str(path))
    assert file is not None
    assert (file.status, file.fingerprint) == ("in_progress", None)
