"""Indexing: what is stored after first, repeated, changed, failed and killed runs."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from rag_server import factory
from rag_server.commands.indexing import ingest_files
from rag_server.commands.progress import IndexingBar
from rag_server.config import Settings
from rag_server.jobs import leases
from rag_server.jobs.ingest import IngestReport
from rag_server.protocols import Embedder
from rag_server.store.documents import Documents
from rag_server.types import Access

WAIT_S = 30.0


class CountingEmbedder:
    """The real embedding model, counting the passages that it embeds."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.num_passages = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._embedder, name)

    def embed_passages(self, texts: list[str]) -> object:
        self.num_passages += len(texts)
        return self._embedder.embed_passages(texts)


class WatchedEmbedder(CountingEmbedder):
    """Gives every passage the same vector; notes what it is given together, and calls `before` with the number of the call."""

    def __init__(self, embedder: Embedder, before: Callable[[int], object]) -> None:
        super().__init__(embedder)
        self._before = before
        self.calls: list[list[str]] = []

    def embed_passages(self, texts: list[str]) -> object:
        self.calls.append(list(texts))
        self._before(len(self.calls))
        return np.full((len(texts), self._embedder.dimension), self._embedder.dimension**-0.5, dtype=np.float32)


@pytest.fixture
def counting(embedder: Embedder) -> CountingEmbedder:
    return CountingEmbedder(embedder)


def ingest(settings: Settings, embedder: object, *paths: Path) -> IngestReport:
    store = factory.open_store(settings)
    try:
        return ingest_files(settings, store, embedder, paths, collection="docs", progress=IndexingBar())
    finally:
        store.database.close()


def stored(settings: Settings) -> dict[str, str]:
    """Every stored document id with its text, after checking that chunks, vectors and both indexes agree with it."""
    store = factory.open_store(settings)
    vector_store = store.vector_stores.get("docs", Access())
    indexes = factory.open_indexes(settings, store)
    with store.database.read() as connection:
        documents = dict(connection.execute(text("SELECT document_id, text FROM documents")).all())
        chunks = {
            row.id: row
            for row in connection.execute(
                text(
                    'SELECT c.id, c.start, c."end", c.text, d.text AS whole '
                    "FROM chunks c JOIN documents d ON d.id = c.document_key"
                )
            )
        }
        vectors = {row[0] for row in connection.execute(text("SELECT chunk_id FROM vectors"))}
    nearest = indexes.vectors(vector_store).search(factory_vector(settings), len(chunks) + 10)
    store.database.close()

    assert all(chunk.whole[chunk.start : chunk.end] == chunk.text for chunk in chunks.values())
    assert vectors == set(chunks)
    assert {hit.chunk_id for hit in nearest} == set(chunks)
    return documents


def factory_vector(settings: Settings) -> object:
    return factory.load_embedder(settings).embed_queries(["anything"])[0]


def write_rows(path: Path, rows: dict[str, str]) -> Path:
    path.write_text("".join(json.dumps({"_id": id_, "text": text_}) + "\n" for id_, text_ in rows.items()))
    return path


def test_second_run_embeds_nothing(settings: Settings, counting: CountingEmbedder, tmp_path: Path) -> None:
    """Indexing the same file again stores and embeds nothing."""
    path = write_rows(tmp_path / "rows.jsonl", {"a": "Cats sleep.", "b": "Dogs bark."})

    first = ingest(settings, counting, path)
    embedded = counting.num_passages
    second = ingest(settings, counting, path)

    assert (first.indexed, first.num_documents, embedded) == ([str(path)], 2, 2)
    assert (second.unchanged, second.indexed, counting.num_passages) == ([str(path)], [], 2)
    assert stored(settings) == {"a": "Cats sleep.", "b": "Dogs bark."}


def test_changed_file_embeds_only_what_changed(settings: Settings, counting: CountingEmbedder, tmp_path: Path) -> None:
    """Of a changed file only new and changed documents are embedded, and removed ones are removed."""
    path = tmp_path / "rows.jsonl"
    ingest(settings, counting, write_rows(path, {"a": "Cats sleep.", "b": "Dogs bark.", "c": "Owls hoot."}))
    counting.num_passages = 0

    ingest(settings, counting, write_rows(path, {"a": "Cats sleep.", "b": "Dogs howl.", "d": "Bees hum."}))

    assert counting.num_passages == 2
    assert stored(settings) == {"a": "Cats sleep.", "b": "Dogs howl.", "d": "Bees hum."}


def test_bad_rows_and_files_are_named_and_the_rest_is_stored(settings: Settings, embedder: Embedder, tmp_path: Path) -> None:
    """A malformed row, an unsupported file and a missing one are reported by name; everything else is indexed."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"_id": "a", "text": "Cats sleep."}\n{"_id": \n{"_id": "b", "text": "Dogs bark."}\n')
    strange = tmp_path / "strange.xyz"
    strange.write_bytes(b"\x00\x01")
    missing = tmp_path / "missing.txt"

    report = ingest(settings, embedder, rows, strange, missing)

    assert stored(settings) == {"a": "Cats sleep.", "b": "Dogs bark."}
    assert set(report.failed) == {str(rows), str(strange), str(missing)}
    assert "line 2" in report.failed[str(rows)][0]
    assert "strange.xyz" in report.failed[str(strange)][0]
    assert "missing.txt" in report.failed[str(missing)][0]


def test_bad_rows_are_named_again(settings: Settings, embedder: Embedder, tmp_path: Path) -> None:
    """A file with a bad row does not pass for unchanged the next time."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"_id": "a", "text": "Cats sleep."}\nnonsense\n')

    first, second = ingest(settings, embedder, rows), ingest(settings, embedder, rows)

    assert first.failed == second.failed
    assert second.num_chunks == 0


def test_file_that_became_unreadable_keeps_what_was_stored(settings: Settings, embedder: Embedder, tmp_path: Path) -> None:
    """When a file turns into nonsense, its last good version stays searchable and the fault is named."""
    path = tmp_path / "doc.pdf"
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(path))
    canvas.drawString(72, 700, "Cats sleep all day.")
    canvas.save()
    ingest(settings, embedder, path)
    path.write_bytes(b"%PDF-1.7 cut off")

    report = ingest(settings, embedder, path)

    assert str(path) in report.failed
    assert "Cats sleep all day." in stored(settings)["doc.pdf"]


def test_chunking_settings_are_part_of_what_is_unchanged(settings: Settings, embedder: Embedder, tmp_path: Path) -> None:
    """After the length of chunks was changed, the same file is cut anew."""
    path = tmp_path / "long.txt"
    path.write_text("Cats sleep all day long. " * 60)
    ingest(settings, embedder, path)
    shorter = settings.model_copy(update={"chunking": settings.chunking.model_copy(update={"max_tokens": 50})})

    report = ingest(shorter, embedder, path)

    assert report.unchanged == []
    # Sixty sentences of six tokens, eight of them in fifty tokens.
    assert report.num_chunks == 8
    stored(shorter)


def num_commits(settings: Settings) -> int:
    store = factory.open_store(settings)
    try:
        with store.database.read() as connection:
            return connection.execute(text("SELECT value FROM facts WHERE name = 'commits'")).scalar_one()
    finally:
        store.database.close()


def write_files(folder: Path, number: int) -> list[Path]:
    paths = [folder / f"{index:02}.txt" for index in range(number)]
    for index, path in enumerate(paths):
        path.write_text(f"Animal number {index} " + "sleeps " * (index % 5))
    return paths


def test_small_files_are_embedded_and_stored_together(
    settings: Settings, embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read while the model is busy makes its next batch, in order of length, and one transaction."""
    paths = write_files(tmp_path, 20)
    all_read, ends = threading.Event(), []
    parts_stored: list[int] = []
    store_parts, has_any = Documents.store, Documents.has_any

    def noting_begin(documents: Documents, file: object) -> bool:
        ends.append(file)
        if len(ends) == len(paths):
            all_read.set()
        return has_any(documents, file)

    def noting_store(documents: Documents, vector_store: object, parts: list[object]) -> object:
        parts_stored.append(len(parts))
        return store_parts(documents, vector_store, parts)

    monkeypatch.setattr(Documents, "has_any", noting_begin)
    monkeypatch.setattr(Documents, "store", noting_store)
    watched = WatchedEmbedder(embedder, lambda number: number > 1 or all_read.wait(WAIT_S))

    report = ingest(settings, watched, *paths)

    assert report.indexed == [str(path) for path in paths]
    assert sum(map(len, watched.calls)) == 20
    # The last file may still be on its way when the second batch begins.
    assert len(watched.calls) <= 3
    assert all(call == sorted(call, key=len) for call in watched.calls)
    assert len(parts_stored) <= 4
    assert len(stored(settings)) == 20


def test_the_model_does_not_wait_for_the_store(
    settings: Settings, embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one portion is being stored, the next one is embedded."""
    rows = {f"d{number}": f"Animal number {number}." for number in range(600)}
    second_call, was_embedded = threading.Event(), []
    store_parts = Documents.store

    def slow_store(documents: Documents, *arguments: object) -> object:
        was_embedded.append(second_call.wait(WAIT_S))
        return store_parts(documents, *arguments)

    monkeypatch.setattr(Documents, "store", slow_store)
    watched = WatchedEmbedder(embedder, lambda number: second_call.set() if number == 2 else None)

    ingest(settings, watched, write_rows(tmp_path / "rows.jsonl", rows))

    assert was_embedded[0]
    assert stored(settings) == rows


def test_a_file_that_is_cancelled_is_left_out_and_the_others_are_stored(
    settings: Settings, embedder: Embedder, tmp_path: Path
) -> None:
    """Also when it would have been stored in one transaction with them."""
    paths = write_files(tmp_path, 6)
    store = factory.open_store(settings)

    def cancel(number: int) -> None:
        if number == 1:
            docs = store.vector_stores.get("docs", Access())
            store.files.cancel(store.files.find(docs, str(paths[0])))

    report = ingest(settings, WatchedEmbedder(embedder, cancel), *paths)
    docs = store.vector_stores.get("docs", Access())
    statuses = {file.filename: file.status for file in store.files.readable(docs, Access())}
    store.database.close()

    assert report.indexed == [str(path) for path in paths[1:]]
    assert report.failed == {str(paths[0]): ["00.txt was cancelled"]}
    assert statuses == {"00.txt": "cancelled", **{path.name: "completed" for path in paths[1:]}}
    assert set(stored(settings)) == {path.name for path in paths[1:]}


def test_leases_are_kept_while_the_model_works(
    settings: Settings, embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the model takes, no other process takes the file for given up."""
    monkeypatch.setattr(leases, "RENEW_LEASE_S", 0.01)
    path = write_rows(tmp_path / "rows.jsonl", {"a": "Cats sleep."})
    store = factory.open_store(settings)

    def lease_until() -> float:
        with store.database.read() as connection:
            return connection.execute(text("SELECT lease_until FROM files")).scalar_one()

    def wait_for_renewal(_: int) -> None:
        before, deadline = lease_until(), time.monotonic() + WAIT_S
        while lease_until() == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    report = ingest(settings, WatchedEmbedder(embedder, wait_for_renewal), path)
    store.database.close()

    assert report.indexed == [str(path)]


def test_a_file_that_is_lost_is_read_no_further(
    settings: Settings, embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancelled file of many rows does not keep the process busy until its end."""
    monkeypatch.setattr(leases, "RENEW_LEASE_S", 0.01)
    rows = {f"d{number}": f"Animal number {number}." for number in range(5000)}
    path = write_rows(tmp_path / "rows.jsonl", rows)
    store, renew, is_lost = factory.open_store(settings), leases.Leases._renew, threading.Event()

    def noting_renew(self: leases.Leases, file: object) -> None:
        renew(self, file)
        if file.is_lost:
            is_lost.set()

    def cancel(number: int) -> None:
        if number == 1:
            docs = store.vector_stores.get("docs", Access())
            store.files.cancel(store.files.find(docs, str(path)))
            assert is_lost.wait(WAIT_S)

    monkeypatch.setattr(leases.Leases, "_renew", noting_renew)
    report = ingest(settings, WatchedEmbedder(embedder, cancel), path)
    store.database.close()

    assert report.failed == {str(path): ["rows.jsonl was cancelled"]}
    assert report.num_documents < 2000
    assert stored(settings) == {}


def test_an_unchanged_collection_is_not_written_to(settings: Settings, embedder: Embedder, tmp_path: Path) -> None:
    """Indexing again what has not changed is one transaction, however many files there are: the collection's own."""
    paths = write_files(tmp_path, 5)
    cheap = WatchedEmbedder(embedder, lambda _: None)
    ingest(settings, cheap, *paths)
    before = num_commits(settings)

    report = ingest(settings, cheap, *paths)

    assert report.unchanged == [str(path) for path in paths]
    assert num_commits(settings) == before + 1


@pytest.mark.parametrize("seconds_after_first_commit", [0.0, 0.3])
def test_killed_run_is_completed_by_the_next(
    settings: Settings, embedder: Embedder, tmp_path: Path, seconds_after_first_commit: float
) -> None:
    """After kill -9 in the midst of indexing, the same command stores everything, nothing twice, and embeds only the rest."""
    rows = {f"d{number}": f"Animal number {number} sleeps for {number} hours. " * 12 for number in range(600)}
    path = write_rows(tmp_path / "rows.jsonl", rows)
    environment = {**os.environ, "RAG_DATA_DIR": str(settings.data_dir)}
    command = [sys.executable, "-m", "rag_server.cli", "index", str(path), "--collection", "docs"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while num_stored(settings) == 0:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        time.sleep(seconds_after_first_commit)
        process.send_signal(signal.SIGKILL)
    before = num_stored(settings)
    counting = CountingEmbedder(embedder)

    report = ingest(settings, counting, path)

    assert 0 < before < 600
    assert report.indexed == [str(path)]
    assert counting.num_passages == 600 - before
    assert stored(settings) == rows


def num_stored(settings: Settings) -> int:
    if not (settings.data_dir / "rag.db").exists():
        return 0
    store = factory.open_store(settings)
    try:
        with store.database.read() as connection:
            return connection.execute(text("SELECT count(*) FROM documents")).scalar_one()
    finally:
        store.database.close()
