"""The comparison of ways to embed: what counts as better, and exact search by a worked example."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from eval.bench_embedders import Took, main, measure_speed, results_table, verdict
from eval.embedding.backends import BASELINE, Backend
from eval.embedding.quality import PROBE, ndcg_of, nearest
from eval.ranking.datasets import load_beir
from tests.eval.reranking_data import write_rows

DIRECTIONS = {"cats": (1.0, 0.0), "dogs": (0.0, 1.0), "both": (0.6, 0.8), "masts.": (0.8, 0.6)}


def direction(texts: Sequence[str]) -> np.ndarray:
    """A unit vector by the last word of each text."""
    return np.array([DIRECTIONS[text.split()[-1]] for text in texts], dtype=np.float32)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "eval" / "small"
    folder.mkdir(parents=True)
    write_rows(folder / "corpus.jsonl.gz", {"d1": "cats", "d2": "dogs", "d3": "both"})
    write_rows(folder / "queries.jsonl.gz", {"q1": "about dogs", "q2": "about cats"})
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td2\t1\nq2\td3\t1\n")
    monkeypatch.setenv("RAG_EVAL_DATA", str(tmp_path / "eval"))
    return folder


def test_nearest_documents_by_inner_product() -> None:
    """Every document is compared; the nearest has the highest score."""
    run = nearest({"q": direction(["dogs"])[0]}, ["d1", "d2", "d3"], direction(["cats", "dogs", "both"]))

    assert run == {"q": {"d2": 3.0, "d3": 2.0, "d1": 1.0}}


def test_ndcg_of_exact_search_and_vectors_kept(data: Path, tmp_path: Path) -> None:
    """The first query finds its document first, the second one as the second; a second run embeds nothing."""
    given: list[str] = []

    def backend(length: float) -> Backend:
        def embed(texts: Sequence[str]) -> np.ndarray:
            given.extend(text for text in texts if text != PROBE)
            return length * direction(texts)

        return Backend("a way", embed)

    expected = (1 + 1 / np.log2(3)) / 2

    assert ndcg_of(backend(1.0), load_beir("small"), cache=tmp_path) == pytest.approx(expected)
    assert sorted(given) == ["On d1\ncats", "On d2\ndogs", "On d3\nboth", "about cats", "about dogs"]
    assert ndcg_of(backend(1.0), load_beir("small"), cache=tmp_path) == pytest.approx(expected)
    assert len(given) == 5
    # Another way of the same name.
    ndcg_of(backend(2.0), load_beir("small"), cache=tmp_path)
    assert len(given) == 10


def test_backends_take_turns_on_each_portion() -> None:
    """Each portion is embedded by all, begun by another one each time."""
    order: list[str] = []

    def backend(name: str) -> Backend:
        def embed(texts: Sequence[str]) -> np.ndarray:
            order.append(f"{name}{len(texts)}")
            return direction(texts)

        return Backend(name, embed)

    took = measure_speed([backend("a"), backend("b")], ["cats"] * 130)

    assert order == ["a64", "b64", "a64", "b64", "b64", "a64", "a2", "b2"]
    assert {name: len(of_portions) for name, of_portions in took.items()} == {"a": 3, "b": 3}


def test_verdict_asks_for_speed_and_quality() -> None:
    """Adopted is what is faster by a tenth and loses less than .003 on every data set."""
    assert verdict(BASELINE, 1.0, [0.0]) == "baseline"
    assert verdict("a", 1.05, [0.0]) == "not 1.1 times as fast"
    assert verdict("a", 1.5, []) == "faster"
    assert verdict("a", 1.5, [0.0, 0.0031]) == "loses 0.003 or more"
    assert verdict("a", 1.5, [-0.01, 0.0029]) == "faster, as good"


def test_table_compares_with_the_baseline() -> None:
    """The ratio is the median over the portions, the difference that of the measures."""
    took = {BASELINE: [Took(wall_s, 1.0) for wall_s in (2, 4, 9)], "fast": [Took(wall_s, 0.5) for wall_s in (1, 2, 1)]}
    table = results_table(30, took, {"small": {BASELINE: 0.5, "fast": 0.49}})

    assert table.rows[1][:4] == ("fast", "7.5", "50.0", "2.00")
    assert table.rows[1][4:6] == (0.49, pytest.approx(-0.01))


def test_small_run_compares_with_sentence_transformers(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each way with speed, quality and a verdict, and a report that names the command."""
    arguments = ["--dataset", "small", "--passages", "3", "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]

    assert main(arguments) == 0
    assert BASELINE in capsys.readouterr().out
    report = (tmp_path / "out" / "embedders" / "report.md").read_text()
    assert "python -m eval.bench_embedders --dataset small" in report
    assert json.loads((tmp_path / "out" / "embedders" / "settings.json").read_text())["passages"] == "3"
