"""The benchmark of the indexes runs through on a small scale."""

import pytest

from eval.bench.tools import print_figures
from eval.bench_index import Size, run_bench
from rag_server.protocols import Embedder

SMALL = Size(
    num_chunks=300,
    num_queries=5,
    num_portions=1,
    documents_per_portion=2,
    rows_per_portion=5,
    stream_s=0.5,
    num_uploads=5,
    num_awaited_uploads=1,
)


def test_small_bench_measures_every_figure(embedder: Embedder, capsys: pytest.CaptureFixture[str]) -> None:
    """Every figure is measured against a real server and printed beside its target; an exact index misses nothing."""
    figures = run_bench(SMALL, embedder)
    print_figures(figures)

    assert [figure.name for figure in figures if figure.target is not None] == [
        "indexing files of several chunks, relative to bare",
        "indexing rows of one short chunk, relative to bare",
        "vector index, resident, relative to raw vectors",
        "vector index, peak while saved, relative to raw vectors",
        "dense recall@10 (flat)",
        "restart to the first answered search",
        "search beyond the embedding, p95",
        "p95 while uploads are indexed relative to before",
        "server's growth from 1 uploads to 5",
        "worker's growth from 1 uploads to 5",
    ]
    by_name = {figure.name: figure.value for figure in figures}
    assert by_name["dense recall@10 (flat)"] == 1.0
    assert by_name["worker's resident memory after 5 uploads"] > 0
    assert by_name["upload to found by a search, median"] > 0
    assert ">= 0.9 x" in capsys.readouterr().out
