"""Reads evaluation data in BEIR's layout from the folder that RAG_EVAL_DATA names."""

import csv
import gzip
import json
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from rag_server.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RetrievalDataset:
    """Judged queries on a corpus. `qrels` holds the grade of each judged document id per query id."""

    name: str
    corpus_path: Path
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]


def load_beir(name: str) -> RetrievalDataset:
    """Return the data set's judged queries; queries without a judgment are left out.

    Raises:
        ConfigError: The data is not where RAG_EVAL_DATA says, or the variable is not set.
    """
    folder = _folder(name)
    qrels: dict[str, dict[str, int]] = defaultdict(dict)
    with (folder / "qrels.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.reader(file, delimiter="\t"):
            # query-id, corpus-id, score; other than this, a line is the header.
            if len(row) == 3 and row[2].lstrip("-").isdigit():
                qrels[row[0]][row[1]] = int(row[2])
    with gzip.open(folder / "queries.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = {query["_id"]: query["text"] for query in map(json.loads, file)}
    missing = sorted(set(qrels) - set(texts))
    if missing:
        raise ConfigError(f"{folder}: {len(missing)} judged queries have no text, such as {missing[0]}")
    queries = {query_id: texts[query_id] for query_id in qrels}
    return RetrievalDataset(name, folder / "corpus.jsonl.gz", queries, dict(qrels))


def _folder(name: str) -> Path:
    root = os.environ.get("RAG_EVAL_DATA")
    if not root:
        raise ConfigError("RAG_EVAL_DATA is not set; let it name the folder with the evaluation data")
    folder = Path(root) / name
    for file in ("corpus.jsonl.gz", "queries.jsonl.gz", "qrels.tsv"):
        if not (folder / file).is_file():
            raise ConfigError(f"{folder / file} is missing; RAG_EVAL_DATA must name a folder with BEIR data sets in it")
    return folder
