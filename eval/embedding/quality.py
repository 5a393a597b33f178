"""What a way to compute an embedding model does to dense search: exact search over a judged corpus."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from eval.embedding.backends import Backend
from eval.ranking.datasets import RetrievalDataset, json_rows
from eval.ranking.measures import NDCG_10, measure
from eval.ranking.rankings import scores_by_rank
from rag_server.types import Vectors

NUM_RANKED = 100
# Texts whose vectors are kept in one file.
PORTION = 256
PROBE = "A ketch has two masts."


def corpus_of(dataset: RetrievalDataset) -> dict[str, str]:
    """Return title and text of each document by its id; those without a word are left out.

    Raises:
        ConfigError: The corpus cannot be read.
    """
    texts = {str(row["_id"]): f"{row.get('title') or ''}\n{row['text']}".strip() for row in json_rows(dataset.corpus_path)}
    return {id_: text for id_, text in texts.items() if text}


def ndcg_of(backend: Backend, dataset: RetrievalDataset, *, cache: Path) -> float:
    """Return nDCG@10 of the nearest documents to each query, all compared; vectors are kept in `cache`."""
    documents = corpus_of(dataset)
    passages = _vectors(backend, list(documents.values()), cache)
    queries = _vectors(backend, list(dataset.queries.values()), cache)
    run = nearest(dict(zip(dataset.queries, queries, strict=True)), list(documents), passages)
    return measure(dataset.qrels, run).mean(NDCG_10)


def nearest(queries: Mapping[str, Vectors], document_ids: Sequence[str], passages: Vectors) -> dict[str, dict[str, float]]:
    """Return the ids of the documents with the largest inner products by query id, scored by their rank."""
    run = {}
    for query_id, vector in queries.items():
        order = np.argsort(-(passages @ vector), kind="stable")[:NUM_RANKED]
        run[query_id] = scores_by_rank([document_ids[place] for place in order])
    return run


def _vectors(backend: Backend, texts: Sequence[str], cache: Path) -> Vectors:
    """Return the vectors of the texts, each portion of them as it was kept or as it is computed now.

    What a backend makes of one text tells it from what it was before another version of it, or another machine, came.
    """
    cache.mkdir(parents=True, exist_ok=True)
    name = f"{backend.name.replace(' ', '-')}-{hashlib.sha256(backend.embed([PROBE]).tobytes()).hexdigest()[:16]}"
    portions = []
    starts = range(0, len(texts), PORTION)
    for start in track(starts, description=backend.name, console=Console(stderr=True)):
        portion = texts[start : start + PORTION]
        digest = hashlib.sha256(repr(portion).encode()).hexdigest()[:16]
        path = cache / f"{name}-{digest}.npy"
        if not path.is_file():
            np.save(path, backend.embed(portion))
        portions.append(np.load(path))
    return np.concatenate(portions)
