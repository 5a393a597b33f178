"""What rankings take, against a scripted engine: the counts are known beforehand, the seconds are not looked at."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from eval.ranking.datasets import RerankingDataset, load_reranking
from eval.ranking.uncached_engine import UncachedEngine
from eval.run_latency import BASELINE, COMPACT, PAPER, VARIANTS, build_rerankers, main, measure, targets, totals_table
from rag_server import factory
from rag_server.config import load_settings
from rag_server.errors import RagServerError
from rag_server.types import RankingReport
from tests.eval.reranking_data import write_folder, write_ranking, write_rows

Engines = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two queries with 100 candidates each."""
    folder = write_folder(tmp_path / "small")
    documents = {f"d{number}": f"Text {number} about masts." for number in range(1, 101)}
    write_rows(folder / "corpus.jsonl.gz", documents)
    write_ranking(folder / "runs" / "dl19.bm25.trec.gz", {"q1": list(documents), "q2": list(documents)})
    return folder


@pytest.fixture
def dataset(folder: Path) -> RerankingDataset:
    return load_reranking(folder, first_stage="bm25")


async def test_counts_are_those_of_the_algorithms(dataset: RerankingDataset, scripted_engine: Engines) -> None:
    """100 candidates: nine calls of the window against one; 100, 10 or 1 output tokens in the compact format."""
    with scripted_engine() as url:
        settings = load_settings({}, engine={"base_url": url})
        engine = factory.build_engine(settings, None)
        uncached = await UncachedEngine.of(engine)
        reports = await measure(dataset, await build_rerankers(settings, uncached, 30), uncached)
        await engine.aclose()

    assert list(reports) == list(VARIANTS)
    assert [report.calls for report in reports[BASELINE]] == [9, 9]
    assert all(report.calls == 1 for name in reports if name != BASELINE for report in reports[name])
    assert [reports[name][0].output_tokens for name in list(VARIANTS)[3:]] == [100, 10, 1]
    # The scripted engine counts words: a title, a text, and its identifier.
    assert reports[PAPER][0].prompt_tokens < 0.6 * reports[BASELINE][0].prompt_tokens


def test_ratios_are_those_of_the_sums() -> None:
    """A worked example with two queries."""
    reports = {name: [RankingReport(calls=1, prompt_tokens=1, output_tokens=1, seconds=1.0)] * 2 for name in VARIANTS}
    reports[BASELINE] = [RankingReport(calls=9, prompt_tokens=200, output_tokens=90, seconds=s) for s in (10.0, 30.0)]
    reports[PAPER] = [RankingReport(calls=1, prompt_tokens=100, output_tokens=50, seconds=s) for s in (4.0, 18.0)]
    reports[COMPACT] = [RankingReport(calls=1, prompt_tokens=100, output_tokens=10, seconds=3.0)] * 2

    assert [target.value for target in targets(reports)] == pytest.approx([1.0, 0.5, 22 / 40, 6 / 40, 0.2])
    row = next(row for row in totals_table(reports).rows if row[0] == PAPER)
    # The median of the queries' ratios, .4 and .6.
    assert row[6] == pytest.approx(0.5)


async def test_nothing_is_compared_with_a_fallback(dataset: RerankingDataset, scripted_engine: Engines) -> None:
    """A ranking that fell back took no time worth measuring."""
    with scripted_engine(context_length=60) as url:
        settings = load_settings({}, engine={"base_url": url})
        engine = factory.build_engine(settings, None)
        uncached = await UncachedEngine.of(engine)
        with pytest.raises(RagServerError, match="fell back"):
            await measure(dataset, await build_rerankers(settings, uncached, 30), uncached)
        await engine.aclose()


async def test_cache_salt_is_sent_to_vllm_only() -> None:
    """Other engines may refuse a field that OpenAI does not have; each measurement has a salt of its own."""
    sent = []

    class Engine:
        def __init__(self, owner: str) -> None:
            self.owner = owner

        async def models(self) -> list[dict[str, str]]:
            return [{"id": "m", "owned_by": self.owner}]

        async def chat(self, body: dict[str, object]) -> dict[str, object]:
            sent.append(body)
            return {}

    for owner in ("vllm", "somebody"):
        uncached = await UncachedEngine.of(Engine(owner))
        for _ in range(2):
            uncached.forget()
            await uncached.chat({"model": "m"})

    first, second, *others = sent
    assert first["cache_salt"] != second["cache_salt"]
    assert others == [{"model": "m"}] * 2


def test_command_prints_the_tables(
    folder: Path,
    scripted_engine: Engines,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The whole command, with a cross-encoder made on the spot: tables on stdout and a report with a plot."""
    with scripted_engine() as url:
        monkeypatch.setenv("RAG_ENGINE__BASE_URL", url)
        out = tmp_path / "reports"
        monkeypatch.setattr(sys, "argv", ["run_latency", "--data", str(folder), "--queries", "1", "--out", str(out)])

        assert main() == 0

    printed = capsys.readouterr().out
    assert "Promised ratios" in printed
    assert "pairs/s, bare model" in printed
    assert (out / "latency" / "seconds.png").stat().st_size > 1000
    assert "full ranking, compact" in (out / "latency" / "report.md").read_text()
