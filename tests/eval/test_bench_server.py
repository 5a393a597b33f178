"""The benchmark runs through on a small scale."""

import pytest

from eval.bench_server import Size, print_table, run_bench


def test_small_bench_measures_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    """Every figure is measured against a real server and printed beside its target."""
    size = Size(num_chunks=50, num_queries=3)

    figures = run_bench(size)
    print_table(size, figures)

    assert [figure.name for figure in figures if figure.target is not None] == [
        "start to /health",
        "search beyond the embedding, median",
        "chat completion beyond retrieval and engine, median",
        "server's resident memory",
    ]
    assert all(figure.value > 0 for figure in figures if "beyond" not in figure.name)
    assert "< 15 ms" in capsys.readouterr().out
