"""The measuring of the constants runs through on a small scale, and says what brute force says."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from eval.bench.corpus import Corpus
from eval.scaling import measure
from eval.scaling.constants import PER_CENT, Constants
from eval.scaling.index_steps import build, nearest_rows
from eval.scaling.measure import Sizes
from rag_server.errors import ConfigError
from rag_server.protocols import Embedder

SMALL = Sizes(kinds=("hnsw", "ivf_pq"), rows=(300, 600), num_queries=10, num_passages=4, real_rows=260, real_queries=5)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with short texts in BEIR's layout."""
    folder = tmp_path / "scifact"
    folder.mkdir()
    rows = [
        {"_id": str(n), "title": f"Title {n}", "text": f"This is text number {n}. It has two sentences."} for n in range(270)
    ]
    with gzip.open(folder / "corpus.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    monkeypatch.setenv("RAG_EVAL_DATA", str(tmp_path))
    return tmp_path


def test_nearest_rows_are_those_of_brute_force() -> None:
    """Across batches of the reading, the ten nearest are those of sorting all of them, nearest first, ids from 1."""
    vectors, queries = Corpus(8).vectors(25_000), Corpus(8, seed=1).vectors(4)

    expected = np.argsort(-(queries @ vectors.T), axis=1)[:, :10] + 1

    assert nearest_rows(vectors, queries).tolist() == expected.tolist()


@pytest.mark.parametrize("kind", ["flat", "ivf_pq"])
def test_built_index_finds_a_row_by_its_own_vector(kind: str) -> None:
    """Ids count the rows from 1, in the server's kinds and in the one that it does not have."""
    vectors = Corpus(16).vectors(500)

    ids, _ = build(kind, vectors).search(vectors[41:42], 10)[0]

    assert 42 in ids


@pytest.mark.usefixtures("data")
def test_measured_constants_are_complete_and_can_be_read_again(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind at every size, real text in the store, BM25 and the model; the file holds what was measured."""
    monkeypatch.setattr(measure.factory, "load_embedder", lambda settings: embedder)

    constants = measure.measure(SMALL, "python -m eval.scaling_plan --measure", None)

    assert [(f.kind, f.rows) for f in constants.indexes] == [(kind, rows) for kind in SMALL.kinds for rows in SMALL.rows]
    assert all(len(f.latency_ms) == PER_CENT and list(f.latency_ms) == sorted(f.latency_ms) for f in constants.indexes)
    assert {f.kind: f.recall for f in constants.indexes}["hnsw"] == 1.0
    (store,) = constants.stores
    assert (store.database, store.documents, store.chunks) == ("sqlite", 270, 270)
    assert store.sql_bytes > 4 * constants.dimension + store.text_bytes
    assert [figures.rows for figures in constants.lexical] == list(SMALL.rows)
    assert [figures.rows for figures in constants.real_text] == [260, 260]
    assert Constants.model_validate_json(constants.model_dump_json()) == constants


def test_missing_data_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without RAG_EVAL_DATA, or without the data set in it, the error says which to set."""
    monkeypatch.delenv("RAG_EVAL_DATA", raising=False)
    with pytest.raises(ConfigError, match="RAG_EVAL_DATA"):
        measure.measure(SMALL, "", None)
    monkeypatch.setenv("RAG_EVAL_DATA", str(tmp_path))
    with pytest.raises(ConfigError, match=r"corpus\.jsonl\.gz is missing"):
        measure.measure(SMALL, "", None)
