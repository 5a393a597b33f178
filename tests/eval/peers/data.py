"""Writes a small data set in the place of scifact."""

from collections.abc import Mapping
from pathlib import Path

from tests.eval.reranking_data import write_rows


def write_scifact(
    folder: Path, texts: Mapping[str, str], queries: Mapping[str, str], judgments: Mapping[tuple[str, str], int]
) -> None:
    """Write documents, queries, and the grades of documents by query and document."""
    scifact = folder / "scifact"
    scifact.mkdir(parents=True)
    write_rows(scifact / "corpus.jsonl.gz", dict(texts))
    write_rows(scifact / "queries.jsonl.gz", dict(queries))
    lines = [f"{query}\t{document}\t{grade}\n" for (query, document), grade in judgments.items()]
    (scifact / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
