"""Writes a small folder with corpus, queries, judgments and runs, as the evaluation of rerankers reads it."""

import gzip
import json
from pathlib import Path

CORPUS = {
    "d1": "Cats sleep for sixteen hours a day.",
    "d2": "A ketch is a boat with two masts.",
    "d3": "Green tea is hot.",
    "d4": "Dogs bark at boats.",
}
QUERIES = {"q1": "sleep of cats", "q2": "masts of a ketch", "q3": "not judged"}
JUDGED = "query-id\tcorpus-id\tscore\nq1\td1\t3\nq1\td4\t1\nq2\td2\t2\nq2\td9\t0\n"
RANKED = {"q1": ["d3", "d1", "d4"], "q2": ["d3", "d2", "d1"], "q3": ["d3"]}


def write_folder(folder: Path) -> Path:
    """Write the folder, as one of several judgments and runs; return it."""
    (folder / "runs").mkdir(parents=True)
    write_rows(folder / "corpus.jsonl.gz", CORPUS)
    write_rows(folder / "queries.jsonl", QUERIES)
    (folder / "qrels.dl19.full.tsv").write_text(JUDGED)
    (folder / "qrels.dl19.pool.tsv").write_text("q1\td1\t1\nq2\td2\t1\n")
    write_ranking(folder / "runs" / "dl19.bm25.trec.gz", RANKED)
    write_ranking(folder / "runs" / "dl19.bm25+best.trec.gz", {"q1": ["d1", "d4", "d3"], "q2": ["d2", "d1", "d3"]})
    return folder


def write_rows(path: Path, texts: dict[str, str]) -> None:
    """Write a .jsonl file, compressed if its name says so."""
    rows = "".join(json.dumps({"_id": id_, "title": f"On {id_}", "text": text}) + "\n" for id_, text in texts.items())
    path.write_bytes(gzip.compress(rows.encode()) if path.suffix == ".gz" else rows.encode())


def write_ranking(path: Path, ranked: dict[str, list[str]]) -> None:
    """Write a compressed run file, the scores of a query falling from 10."""
    lines = [
        f"{query_id} Q0 {document_id} {rank} {11 - rank} {path.name.split('.')[1]}\n"
        for query_id, document_ids in ranked.items()
        for rank, document_id in enumerate(document_ids, start=1)
    ]
    path.write_bytes(gzip.compress("".join(lines).encode()))
