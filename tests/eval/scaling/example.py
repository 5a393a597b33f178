"""Constants with round numbers, for plans that can be worked out by hand."""

from eval.scaling.constants import (
    PER_CENT,
    Constants,
    EmbeddingFigures,
    IndexFigures,
    LexicalFigures,
    RealTextFigures,
    StoreFigures,
)

KINDS = {"flat": 1500, "hnsw": 1800, "ivf": 1550, "ivf_sq8": 400, "ivf_rabitq": 320, "ivf_pq": 110}


def index(kind: str, rows: int, *, bytes_per_row: float, ms: float, found: float = 0.99) -> IndexFigures:
    """An index whose searches all take the same time and which finds each of the nearest equally often."""
    return IndexFigures(
        kind=kind,
        rows=rows,
        build_core_s=rows / 1000,
        resident_bytes=round(rows * bytes_per_row),
        disk_bytes=round(rows * bytes_per_row),
        found_by_rank=(found,) * 10,
        latency_ms=(ms,) * PER_CENT,
    )


def constants() -> Constants:
    """Return constants whose every index takes 1 ms per 100,000 rows, and BM25 as much per million."""
    return Constants(
        date="2026-01-01",
        machine="a machine",
        command="by hand",
        dimension=384,
        waiting_share=0,
        merge_ns_per_hit=100,
        indexes=tuple(
            index(kind, rows, bytes_per_row=bytes_per_row, ms=rows / 100_000)
            for kind, bytes_per_row in KINDS.items()
            for rows in (100_000, 200_000)
        ),
        lexical=(LexicalFigures(rows=100_000, mean_ms=0.1), LexicalFigures(rows=200_000, mean_ms=0.2)),
        stores=(
            StoreFigures(
                database="sqlite",
                documents=100,
                chunks=1000,
                text_bytes=800,
                tokens=150,
                sql_bytes=5000,
                bm25_bytes=200,
                ingest_core_ms=2,
            ),
        ),
        embedding=EmbeddingFigures(passage_core_ms=36, query_core_ms=8),
        real_text=(RealTextFigures(kind="hnsw", rows=1000, recall=0.97, recall_made_up=0.99),),
    )
