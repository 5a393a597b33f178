"""The evaluation of rerankers on a small folder, with rerankers whose figures are known beforehand."""

import contextlib
import json
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from eval.ranking.datasets import RerankingDataset, load_reranking, load_stored_run
from eval.ranking.embedding_reranker import EmbeddingReranker
from eval.ranking.measures import MRR_10, NDCG_10
from eval.ranking.trec import read_run
from eval.ranking.variants import DEADLINE_S, NamedReranker, parse_variants
from eval.run_rerank import evaluate, main, rerank_all
from rag_server.config import Settings, load_settings
from rag_server.errors import ConfigError, EngineUnavailableError
from rag_server.protocols import Embedder, Reranker
from rag_server.types import Passage, Ranking, RankingReport
from tests.eval.reranking_data import write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "small")


@pytest.fixture
def dataset(folder: Path) -> RerankingDataset:
    return load_reranking(folder, first_stage="bm25")


class Reversing:
    """Turns the candidates round."""

    async def rerank(self, query: str, passages: Sequence[Passage]) -> Ranking:
        """Return them from the last to the first, with counters."""
        del query
        turned = tuple(replace(passage, rank=rank) for rank, passage in enumerate(reversed(passages), start=1))
        return Ranking(turned, RankingReport(calls=2, prompt_tokens=len(passages), well_formed=1, missing=1))


class FailingOnCats(Reversing):
    """Fails at the query about cats, and falls back at the others."""

    async def rerank(self, query: str, passages: Sequence[Passage]) -> Ranking:
        """Return the candidates as they came, or fail."""
        if "cats" in query:
            raise EngineUnavailableError("the engine is down")
        return Ranking(tuple(passages), RankingReport(fallback="too late"))


class Losing(Reversing):
    """Loses a candidate."""

    async def rerank(self, query: str, passages: Sequence[Passage]) -> Ranking:
        """Return all candidates but the first."""
        del query
        return Ranking(tuple(passages[1:]))


def _named(reranker: Reranker) -> NamedReranker:
    return NamedReranker(type(reranker).__name__, reranker, "some-model", {"rerank": {"window": 20}})


async def test_table_compares_stored_and_new_rankings(
    dataset: RerankingDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """First stage, stored run and reranker stand in one table; nDCG@10 of the two made-up queries is worked out by hand."""
    compared = {"bm25+best": load_stored_run(dataset, "bm25+best")}

    complete = await evaluate(dataset, compared=compared, rerankers=[_named(Reversing())], out=tmp_path / "out", command="c")

    # q1: grade 3 at rank 2, grade 1 at rank 3 (reversed: 1 at 1, 3 at 2); q2: grade 2 at rank 2 both ways.
    best = 3 + 1 / math.log2(3)
    bm25 = ((3 / math.log2(3) + 1 / 2) / best + 1 / math.log2(3)) / 2
    turned = ((1 + 3 / math.log2(3)) / best + 1 / math.log2(3)) / 2
    quality, _, _ = capsys.readouterr().out.partition("What the reranking took")
    figures = {line.split()[0]: line.split() for line in quality.splitlines() if line}
    assert complete
    assert figures["bm25"][1] == f"{bm25:.4f}"
    assert figures["bm25+best"][1] == "1.0000"
    assert figures["Reversing"][1] == f"{turned:.4f}"


async def test_report_and_run_files_stand_in_the_folder(dataset: RerankingDataset, tmp_path: Path) -> None:
    """The report has table, counters and plot; the run reads back, with model, settings and summed counters beside it."""
    await evaluate(dataset, compared={}, rerankers=[_named(Reversing())], out=tmp_path, command="python -m eval.run_rerank -x")

    report = (tmp_path / "report.md").read_text()
    record = json.loads((tmp_path / "runs" / "Reversing.json").read_text())
    assert "python -m eval.run_rerank -x" in report
    assert "| Reversing | 4 | 6 |" in report
    assert (tmp_path / "ndcg.png").is_file()
    assert list(read_run(tmp_path / "runs" / "Reversing.trec")["q1"]) == ["d4", "d1", "d3"]
    assert record["models"] == {"reranker": "some-model"}
    assert record["settings"] == {"rerank": {"window": 20}}
    assert (record["counters"]["calls"], record["counters"]["missing"], record["failed"]) == (4, 2, {})


async def test_failed_query_counts_as_zero_and_is_listed(
    dataset: RerankingDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A query whose reranking raises stays in the average as zero, a fallback is counted, and both are said."""
    complete = await evaluate(dataset, compared={}, rerankers=[_named(FailingOnCats())], out=tmp_path, command="c")

    printed = capsys.readouterr().out
    record = json.loads((tmp_path / "runs" / "FailingOnCats.json").read_text())
    assert not complete
    assert record["measures"][NDCG_10] == pytest.approx((0 + 1 / math.log2(3)) / 2)
    assert record["counters"]["fallback"] == 1
    for fault in (
        "FailingOnCats: query q1 failed and counts as zero: EngineUnavailableError: the engine is down",
        "FailingOnCats: for 1 queries the first stage's order was used instead; the first reason: too late",
    ):
        assert fault in printed
        assert fault in (tmp_path / "report.md").read_text()


async def test_reranker_that_loses_a_candidate_fails(dataset: RerankingDataset) -> None:
    """An incomplete ranking is a failure, not a better figure."""
    rankings = await rerank_all(dataset, Losing(), name="Losing")

    assert rankings.run == {"q1": {}, "q2": {}}
    assert "lost or repeated" in rankings.failed["q1"]


async def test_embedding_reranker_orders_by_cosine(dataset: RerankingDataset, embedder: Embedder) -> None:
    """Its order and scores are those of the dot products of the model's own unit vectors, titles included."""
    passages = dataset.candidates["q1"]
    query = embedder.embed_queries([dataset.queries["q1"]])[0]
    cosines = {
        passage.document_id: float(embedder.embed_passages([f"{passage.title}\n{passage.text}"])[0] @ query)
        for passage in passages
    }

    ranking = await EmbeddingReranker(embedder).rerank(dataset.queries["q1"], passages)

    assert [passage.document_id for passage in ranking.passages] == sorted(cosines, key=lambda id_: -cosines[id_])
    assert [passage.rank for passage in ranking.passages] == [1, 2, 3]
    assert ranking.passages[0].document_id == "d1"
    for passage in ranking.passages:
        # To within the rounding of a processor that computes in bfloat16: above, each passage was embedded alone.
        assert passage.score == pytest.approx(cosines[passage.document_id], abs=3e-3)


def test_variants_lay_their_options_over_the_settings() -> None:
    """A variant's options come before RAG_RERANK__*, which come before the defaults; no deadline unless one is set."""
    settings = load_settings({"RAG_RERANK__WINDOW": "30", "RAG_RERANK__FORMAT": "compact"})

    plain, own, window = parse_variants(
        "full_ranking,full_ranking:format=paper:top_m=10:passage_words=50,sliding_window:deadline_s=5", settings
    )

    assert (plain.settings.rerank.kind, plain.settings.rerank.format, plain.settings.rerank.top_m) == (
        "full_ranking",
        "compact",
        None,
    )
    assert (own.settings.rerank.format, own.settings.rerank.top_m, own.settings.rerank.passage_words) == ("paper", 10, 50)
    assert (window.settings.rerank.window, window.settings.rerank.deadline_s) == (30, 5.0)
    assert plain.settings.rerank.deadline_s == DEADLINE_S
    assert parse_variants("full_ranking:first_token", settings)[0].settings.rerank.first_token
    assert own.name == "full_ranking:format=paper:top_m=10:passage_words=50"


def test_model_is_of_its_own_kind() -> None:
    """RAG_RERANK__MODEL is for RAG_RERANK__KIND: both listwise kinds ask the engine for it, a cross-encoder does not."""
    settings = load_settings({"RAG_RERANK__KIND": "full_ranking", "RAG_RERANK__MODEL": "rank"})

    full, window, cross = parse_variants("full_ranking,sliding_window,cross_encoder:model=folder", settings)

    assert [variant.settings.rerank.model for variant in (full, window, cross)] == ["rank", "rank", "folder"]
    assert [variant.asks_engine for variant in (full, window, cross)] == [True, True, False]
    with pytest.raises(ConfigError, match=r"cross_encoder: .*cross_encoder needs RAG_RERANK__MODEL.*cross_encoder:NAME=VALUE"):
        parse_variants("cross_encoder", settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("best", "best: there is no such reranker; known are none, cross_encoder, .*embedding"),
        ("none,none", "none is named twice"),
        ("full_ranking:topm=3", "full_ranking:topm=3: topm Extra inputs are not permitted"),
        ("full_ranking:top_m=0", "top_m Input should be greater than or equal to 1"),
        ("full_ranking:first_token", "first_token needs format=compact"),
        ("embedding:model=x", "embedding takes no options"),
    ],
)
def test_unfit_variant_is_named(text: str, message: str) -> None:
    """A kind or option that does not exist or does not fit is an error that names the variant."""
    with pytest.raises(ConfigError, match=message):
        parse_variants(text, load_settings({}))


@pytest.fixture
def run(folder: Path, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the command line against the folder."""
    monkeypatch.setenv("RAG_DATA_DIR", str(settings.data_dir))

    def call(*arguments: str) -> int:
        command = ["run_rerank", "--data", str(folder), "--first-stage", "bm25", "--out", str(tmp_path / "reports")]
        monkeypatch.setattr(sys, "argv", [*command, *arguments])
        return main()

    return call


def test_command_measures_every_kind_against_an_engine(
    run: Callable[..., int],
    scripted_engine: Callable[..., AbstractContextManager[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Stored run, embedding model and listwise rerankers with their options come in one report, with the engine's calls.

    The scripted engine orders by shared words, which finds the relevant document of both queries.
    """
    rerankers = "none,embedding,full_ranking,full_ranking:format=compact:top_m=2,sliding_window:window=2:step=1"
    with scripted_engine() as base_url:
        monkeypatch.setenv("RAG_ENGINE__BASE_URL", base_url)
        status = run("--compare", "bm25+best", "--rerankers", rerankers)

    captured = capsys.readouterr()
    out = tmp_path / "reports" / "rerank-small-bm25"
    names = ["none", "embedding", "full_ranking", "full_ranking_format=compact_top_m=2", "sliding_window_window=2_step=1"]
    records = {name: json.loads((out / "runs" / f"{name}.json").read_text()) for name in names}
    assert (status, captured.err.count("run_rerank:")) == (0, 0)
    assert records["full_ranking"]["models"] == {"reranker": "scripted"}
    assert records["full_ranking"]["measures"][MRR_10] == records["embedding"]["measures"][MRR_10] == 1.0
    assert records["none"]["measures"][MRR_10] == 0.5
    # Two queries with three candidates each: one prompt, or windows over (2, 3) and (1, 2).
    assert [records[name]["counters"]["calls"] for name in names] == [0, 0, 2, 2, 4]
    assert all(records[name]["counters"]["fallback"] == 0 for name in names)
    for name in rerankers.split(","):
        assert f"| {name} |" in (out / "report.md").read_text()


def test_command_cuts_queries_and_candidates(run: Callable[..., int], tmp_path: Path) -> None:
    """--queries and --candidates take the first ones, --judgments another file."""
    assert run("--queries", "1", "--candidates", "2", "--judgments", "pool", "--rerankers", "none") == 0

    out = tmp_path / "reports" / "rerank-small-bm25"
    assert read_run(out / "runs" / "none.trec") == {"q1": {"d3": 2.0, "d1": 1.0}}
    assert "1 queries, judged by qrels.dl19.pool.tsv" in (out / "report.md").read_text()


def test_command_says_what_is_wrong(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    """A stored run that does not exist, and a number that is none, end with a message instead of a traceback."""
    assert run("--compare", "rankzephyr") == 1
    assert "run_rerank:" in (message := capsys.readouterr().err)
    assert "no run named rankzephyr; name one of: dl19.bm25, dl19.bm25+best" in message
    with contextlib.suppress(SystemExit):
        run("--queries", "0")
    assert "0 is no number from 1" in capsys.readouterr().err
