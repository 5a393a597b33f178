"""`rag-server index --ray` stores what the same command stores without a cluster, whatever kills it."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from eval.crash.work import HashEmbedder
from eval.ray_index.check import TOLERANCE, check
from eval.ray_index.corpus import Corpus, write_corpus
from eval.ray_index_test import print_report, run_test
from indexers.loaders.dispatch import load
from rag_server import factory
from rag_server.config import Settings, load_settings
from rag_server.jobs.ingest import Ingest, Source
from rag_server.jobs.worker import NoProgress
from rag_server.types import Access, NewFile

EMBEDDER = HashEmbedder("a")
# The parts of a cluster find each other by this machine's own address, which the guard takes for another machine's.
OWN = {"PYTHONPATH": "", "RAY_USAGE_STATS_ENABLED": "0"}


def _index(settings: Settings, collection: str, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Return the status of the command, its report, and what it printed beside."""
    command = [sys.executable, "-m", "rag_server.cli", "index", *arguments, "--collection", collection, "--json"]
    environment = {**os.environ, **OWN, "RAG_DATA_DIR": str(settings.data_dir)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    return run.returncode, json.loads(run.stdout or "{}"), run.stderr


def _stored(settings: Settings, collection: str) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """Every chunk with its file, document, place and text, in that order, and their vectors as rows."""
    store = factory.open_store(settings)
    query = (
        "SELECT f.filename, d.document_id, c.start, c.text, c.place, v.vector "
        "FROM files f JOIN documents d ON d.file_key = f.key JOIN chunks c ON c.document_key = d.id "
        "JOIN vectors v ON v.chunk_id = c.id JOIN vector_stores s ON s.id = f.vector_store_id "
        "WHERE s.name = :name ORDER BY f.filename, d.document_id, c.start"
    )
    with store.database.read() as connection:
        rows = connection.execute(text(query), {"name": collection}).all()
    store.database.close()
    return [tuple(row[:-1]) for row in rows], np.array([np.frombuffer(row.vector, dtype="<f4") for row in rows])


def test_a_cluster_stores_the_same(tmp_path: Path) -> None:
    """Chunks, vectors and errors are those of a run without a cluster; a second run finds everything unchanged."""
    settings, folder = load_settings({}, data_dir=tmp_path / "data"), tmp_path / "in"
    write_corpus(folder, 120, random.Random(1))
    (folder / "guide.md").write_text("# Cats\n\nThey sleep all day. " * 30 + "\n\n## Dogs\n\nThey bark all night. " * 30)
    (folder / "rows.jsonl").write_text('{"_id": "a", "text": "Owls hoot.", "year": 1999}\nnonsense\n')
    (folder / "strange.xyz").write_bytes(b"\x00\x01")

    plain = _index(settings, "plain", str(folder))
    on_ray = _index(settings, "on-ray", str(folder), "--ray", "local")
    again = _index(settings, "on-ray", str(folder), "--ray", "local")

    assert plain[0] == on_ray[0] == again[0] == 1
    for name in ("failed", "num_documents", "num_chunks", "moved", "unchanged"):
        assert on_ray[1][name] == plain[1][name]
    assert set(on_ray[1]["failed"]) == {str(folder / "rows.jsonl"), str(folder / "strange.xyz")}
    assert (again[1]["num_chunks"], len(again[1]["unchanged"])) == (0, len(plain[1]["indexed"]) - 1)
    (expected, vectors), (found, others) = _stored(settings, "plain"), _stored(settings, "on-ray")
    assert len(expected) > 120
    assert found == expected
    assert np.sum(others * vectors, axis=1).min() > 1 - TOLERANCE


def test_nothing_is_lost_or_twice_after_a_kill(capsys: pytest.CaptureFixture[str]) -> None:
    """Killed with its whole cluster and called again, the command stores each of 200 documents and each chunk once."""
    report = run_test(200, 1, seed=1)
    print_report(report, "a test")

    assert report.faults == []
    assert report.num_chunks >= 200
    assert len(report.stored_at_kills) == 1
    assert report.stored_at_kills[0] > 0
    assert "stored at kill 1" in capsys.readouterr().out


def test_a_cluster_that_is_not_there_is_named(tmp_path: Path) -> None:
    """One line says what is wrong with the address, and nothing is indexed."""
    (tmp_path / "note.txt").write_text("Cats sleep.")

    status, _, told = _index(
        load_settings({}, data_dir=tmp_path / "data"), "docs", str(tmp_path / "note.txt"), "--ray", "127.0.0.1:1"
    )

    assert status == 1
    assert told.startswith("rag-server: there is no Ray cluster at 127.0.0.1:1")
    assert told.count("\n") == 1


def _corpus(tmp_path: Path, settings: Settings) -> Corpus:
    """A corpus that was indexed without a cluster."""
    corpus = write_corpus(tmp_path / "in", 24, random.Random(1))
    store = factory.open_store(settings)
    ingest = Ingest(
        files=store.files,
        documents=store.documents,
        embedder=EMBEDDER,
        load=load,
        cut_text=factory.build_chunker(settings),
        chunking=settings.chunking,
    )
    sources = [Source(path, NewFile(str(path), path.name, path.stat().st_size)) for path in (tmp_path / "in").iterdir()]
    ingest.run(store.vector_stores.get_or_create("docs", Access(), EMBEDDER), sources, NoProgress())
    store.database.close()
    return corpus


COPY_A_CHUNK = (
    'INSERT INTO chunks (vector_store_id, document_key, start, "end", text, place) '
    'SELECT vector_store_id, document_key, start, "end", text, place FROM chunks WHERE id = 5'
)


@pytest.mark.parametrize(
    ("break_it", "kind"),
    [
        (None, None),
        ("UPDATE files SET fingerprint = NULL WHERE key = 1", "missing"),
        ("DELETE FROM vectors WHERE chunk_id = 2", "vectors"),
        ("UPDATE chunks SET text = text || '!' WHERE id = 3", "differing"),
        ("UPDATE documents SET document_id = 'other' WHERE id = 4", "missing"),
        (COPY_A_CHUNK, "twice"),
    ],
)
def test_the_check_finds_what_was_broken(tmp_path: Path, break_it: str | None, kind: str | None) -> None:
    """A collection that is whole passes; damage done on purpose is found as what it is."""
    settings = load_settings({}, data_dir=tmp_path / "data")
    corpus = _corpus(tmp_path, settings)
    if break_it is not None:
        store = factory.open_store(settings)
        with store.database.write() as connection:
            connection.execute(text(break_it))
        store.database.close()

    _, faults = check(settings, "docs", corpus, EMBEDDER)

    found = {name for name, _ in faults}
    assert found == set() if kind is None else kind in found
