"""Measures the constants of the plan on this machine, with one thread, so that it can run beside other work."""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import numpy as np

from eval.bench.corpus import Corpus
from eval.data_files import open_text
from eval.ranking.datasets import CORPUS, evaluation_folder
from eval.scaling.constants import TOP, Constants, EmbeddingFigures, IndexFigures, MeasuredKind, RealTextFigures
from eval.scaling.index_steps import build, nearest_rows
from eval.scaling.measure_store import NUM_CANDIDATES, measure_embedding, measure_lexical, measure_store
from rag_server import factory
from rag_server.config import load_settings
from rag_server.protocols import Embedder
from rag_server.types import Vectors

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
DATASET = "scifact"
QUERIES_SEED = 9
MERGED_HITS = 20_000
# Of a real text, so that many can be embedded in a minute.
REAL_WORDS = 30


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    kinds: tuple[MeasuredKind, ...] = get_args(MeasuredKind)
    rows: tuple[int, ...] = (40_000, 80_000, 160_000)
    num_queries: int = 300
    num_passages: int = 60
    real_rows: int = 1500
    real_queries: int = 200


def measure(sizes: Sizes, command: str, database_url: str | None) -> Constants:
    """Measure everything; `database_url` is an empty PostgreSQL database that is measured beside SQLite, if it is given.

    Raises:
        ConfigError: RAG_EVAL_DATA does not name a folder with the data set scifact.
    """
    corpus_path = evaluation_folder() / DATASET / CORPUS
    with open_text(corpus_path) as file:
        texts = [_text(json.loads(line)) for line in file]
    embedder = factory.load_embedder(load_settings({}))
    stores, passages = [], list[str]()
    for url in (None, database_url) if database_url else (None,):
        figures, passages = measure_store(embedder, [corpus_path], url)
        stores.append(figures)
        print(figures, flush=True)
    embedding = _embedding(embedder, passages, sizes)
    print(embedding, flush=True)
    indexes, waiting_share = _indexes(embedder.dimension, sizes)
    return Constants(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        machine=machine(),
        command=command,
        dimension=embedder.dimension,
        waiting_share=waiting_share,
        merge_ns_per_hit=_merge_ns_per_hit(),
        indexes=tuple(indexes),
        lexical=tuple(measure_lexical(sizes.rows, sizes.num_queries)),
        stores=tuple(stores),
        embedding=embedding,
        real_text=tuple(_real_text(embedder, texts, sizes)),
    )


def machine() -> str:
    """Return this machine in general words."""
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{platform.machine()}, {os.cpu_count()} cores (shared), {gib:.0f} GiB, Python {platform.python_version()}"


def _indexes(dimension: int, sizes: Sizes) -> tuple[list[IndexFigures], float]:
    """Return every kind at every size, and which share of the searches' time their thread waited for a core."""
    figures, cpu_ms, wall_ms = [], 0.0, 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "vectors.npy", Corpus(dimension).vectors(max(sizes.rows)))
        np.save(folder / "queries.npy", Corpus(dimension, seed=QUERIES_SEED).vectors(sizes.num_queries))
        for kind in sizes.kinds:
            for rows in sizes.rows:
                built = _step(folder, kind, rows, "build")
                searched = _step(folder, kind, rows, "search")
                cpu_ms += searched.pop("cpu_ms")
                wall_ms += searched.pop("wall_ms")
                figures.append(IndexFigures.model_validate({"kind": kind, "rows": rows, **_rounded({**built, **searched})}))
                print(f"{kind:<12}{rows:>9}  recall {figures[-1].recall:.3f}  {figures[-1].mean_ms:.2f} ms", flush=True)
    return figures, max(0.0, round(1 - cpu_ms / wall_ms, 4))


def _step(folder: Path, kind: str, rows: int, step: str) -> dict[str, Any]:
    arguments = ["-m", "eval.scaling.index_steps", str(folder), kind, str(rows), step, str(NUM_CANDIDATES)]
    child = subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.PIPE, env={**os.environ, **ONE_THREAD})
    printed: dict[str, Any] = json.loads(child.stdout)
    return printed


def _embedding(embedder: Embedder, passages: Sequence[str], sizes: Sizes) -> EmbeddingFigures:
    sample = passages[:: max(1, len(passages) // sizes.num_passages)][: sizes.num_passages]
    # The first sentence of a passage is about as long as a question.
    queries = [passage.split(". ")[0][:100] for passage in sample]
    return measure_embedding(embedder, sample, queries)


def _real_text(embedder: Embedder, texts: Sequence[str], sizes: Sizes) -> list[RealTextFigures]:
    """Return the recall of each kind among vectors of real texts, and among as many made-up ones."""
    number = sizes.real_rows + sizes.real_queries
    shortened = [" ".join(text.split()[:REAL_WORDS]) for text in texts[:number]]
    vectors = embedder.embed_passages(sorted(shortened, key=len))
    real = np.random.default_rng(0).permutation(vectors)
    made_up = Corpus(embedder.dimension).vectors(len(real))
    return [
        RealTextFigures(
            kind=kind,
            rows=len(real) - sizes.real_queries,
            recall=_recall(kind, real, sizes.real_queries),
            recall_made_up=_recall(kind, made_up, sizes.real_queries),
        )
        for kind in sizes.kinds
    ]


def _recall(kind: MeasuredKind, vectors: Vectors, num_queries: int) -> float:
    queries, indexed = vectors[:num_queries], vectors[num_queries:]
    segment = build(kind, indexed)
    nearest = nearest_rows(indexed, queries)
    found = [
        np.isin(wanted, segment.search(query[np.newaxis], TOP)[0][0]) for query, wanted in zip(queries, nearest, strict=True)
    ]
    return round(float(np.mean(found)), 4)


def _merge_ns_per_hit() -> float:
    """Return what it takes to put so many hits of several machines in order, per hit."""
    random = np.random.default_rng(0)
    ids, scores = random.integers(10**9, size=MERGED_HITS), random.random(MERGED_HITS)
    started = time.process_time()
    for _ in range(20):
        np.lexsort((ids, -scores))
    return round((time.process_time() - started) / 20 / MERGED_HITS * 1e9, 1)


def _text(row: Mapping[str, str]) -> str:
    return f"{row.get('title', '')} {row['text']}"


def _rounded(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures with as many digits as mean something."""
    return {
        name: [round(value, 4) for value in figure] if isinstance(figure, list) else round(figure, 3)
        for name, figure in figures.items()
    }
