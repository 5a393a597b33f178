"""Measures what rankings take, side by side on one engine: calls, tokens and seconds per query; and a cross-encoder's speed.

python -m eval.run_latency --data $RAG_EVAL_DATA/msmarco-dl19 --first-stage bm25 --queries 5
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from eval.engine import engine_of
from eval.ranking.bare_cross_encoder import compare_cross_encoder
from eval.ranking.datasets import RerankingDataset, load_reranking
from eval.ranking.uncached_engine import UncachedEngine
from eval.ranking.variants import build, parse_variants
from eval.report import Plot, Series, Table, as_text, write_report
from rag_server.config import Settings, load_settings
from rag_server.errors import RagServerError
from rag_server.protocols import Engine, Reranker
from rag_server.types import RankingReport

BASELINE = "sliding window"
PAPER = "full ranking, paper"
COMPACT = "full ranking, compact"
VARIANTS = {
    BASELINE: "sliding_window",
    PAPER: "full_ranking",
    "full ranking, paper, top 10": "full_ranking:top_m=10",
    COMPACT: "full_ranking:format=compact",
    "full ranking, compact, top 10": "full_ranking:format=compact:top_m=10",
    "full ranking, first token": "full_ranking:format=compact:first_token",
}

Reports = dict[str, list[RankingReport]]


@dataclass(frozen=True, slots=True)
class Target:
    """A ratio of two variants that the product promises."""

    name: str
    value: float
    at_most: float


async def measure(dataset: RerankingDataset, rerankers: Mapping[str, Reranker], uncached: UncachedEngine) -> Reports:
    """Return what each query's ranking took, the variants one after the other on each query, each query begun by another.

    Raises:
        RagServerError: A ranking fell back, so that there is nothing to compare.
    """
    reports: Reports = {name: [] for name in rerankers}
    names = list(rerankers)
    await _warm_up(dataset, rerankers)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("ranking", total=len(dataset.queries) * len(rerankers))
        for number, (query_id, text) in enumerate(dataset.queries.items()):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                progress.update(task, description=name)
                uncached.forget()
                report = (await rerankers[name].rerank(text, dataset.candidates[query_id])).report
                if report.fallback is not None:
                    raise RagServerError(f"{name} fell back on query {query_id}: {report.fallback}")
                reports[name].append(report)
                progress.advance(task)
    return reports


async def _warm_up(dataset: RerankingDataset, rerankers: Mapping[str, Reranker]) -> None:
    """Let each format rank once, so that no variant pays for what an engine or a tokenizer does once."""
    query_id, text = next(iter(dataset.queries.items()))
    for name in (COMPACT, PAPER):
        await rerankers[name].rerank(text, dataset.candidates[query_id])


def totals_table(reports: Reports) -> Table:
    """Return the means per query, and the median of each query's time relative to the sliding window's."""
    costs = ("calls", "prompt tokens", "output tokens", "cached tokens", "seconds", "time ratio")
    columns = ("ranking", *costs, "words read", "well-formed", "repaired", "missing", "unread")
    rows = []
    for name, of_queries in reports.items():
        total = sum(of_queries, RankingReport())
        num = len(of_queries)
        ratio = statistics.median(
            report.seconds / baseline.seconds for report, baseline in zip(of_queries, reports[BASELINE], strict=True)
        )
        means = (total.calls / num, total.prompt_tokens / num, total.output_tokens / num, total.cached_tokens / num)
        read = 1 - total.words_cut / max(total.words, 1)
        faults = (total.well_formed, total.repaired, total.missing, total.unread)
        rows.append((name, *means, total.seconds / num, ratio, read, *faults))
    return Table("Per query", columns, tuple(rows))


def targets(reports: Reports) -> list[Target]:
    """Return the promised ratios: full ranking against the window, and the compact against the paper's format."""
    sums = {name: sum(of_queries, RankingReport()) for name, of_queries in reports.items()}
    baseline, paper, compact = sums[BASELINE], sums[PAPER], sums[COMPACT]
    return [
        Target("calls per query, full ranking", paper.calls / len(reports[PAPER]), 1.0),
        Target("prompt tokens, full ranking / sliding window", paper.prompt_tokens / baseline.prompt_tokens, 0.6),
        Target("seconds, full ranking / sliding window", paper.seconds / baseline.seconds, 1.0),
        Target("seconds, compact / sliding window", compact.seconds / baseline.seconds, 1.0),
        Target("output tokens, compact / paper", compact.output_tokens / paper.output_tokens, 0.3),
    ]


def targets_table(found: Sequence[Target]) -> Table:
    """Return the ratios beside what is promised."""
    rows = tuple((t.name, t.value, t.at_most, "yes" if t.value <= t.at_most + 1e-9 else "no") for t in found)
    return Table("Promised ratios", ("ratio", "measured", "at most", "kept"), rows)


async def build_rerankers(settings: Settings, engine: Engine, passage_words: int) -> dict[str, Reranker]:
    """Return the variants, all with the same words of a passage."""
    built = {}
    for name, written in VARIANTS.items():
        (variant,) = parse_variants(f"{written}:passage_words={passage_words}", settings)
        built[name] = (await build(variant, engine)).reranker
    return built


async def _main(arguments: argparse.Namespace) -> None:
    settings = load_settings()
    dataset = load_reranking(
        arguments.data, first_stage=arguments.first_stage, num_queries=arguments.queries, num_candidates=arguments.candidates
    )
    async with engine_of(settings) as engine:
        uncached = await UncachedEngine.of(engine)
        model = settings.rerank.model or await engine.default_model()
        print(f"{dataset.name}: {len(dataset.queries)} queries, {arguments.candidates} candidates each, model {model}")
        rerankers = await build_rerankers(settings, uncached, arguments.passage_words)
        reports = await measure(dataset, rerankers, uncached)
    tables = [totals_table(reports), targets_table(targets(reports))]
    with tempfile.TemporaryDirectory() as folder:
        tables.append(await compare_cross_encoder(settings, dataset, Path(folder)))
    for table in tables:
        print(f"\n{as_text(table)}")
    _write(arguments, model, tables, reports)


def _write(arguments: argparse.Namespace, model: str, tables: Sequence[Table], reports: Reports) -> None:
    means = {name: statistics.fmean(report.seconds for report in of_queries) for name, of_queries in reports.items()}
    plot = Plot(
        "seconds.png",
        "Seconds per query",
        "",
        "seconds",
        (Series("mean", tuple(range(len(means))), tuple(means.values())),),
        categories=tuple(means),
    )
    path = write_report(
        arguments.out / "latency",
        title="What rankings take",
        command=f"python -m eval.run_latency {' '.join(sys.argv[1:])}",
        settings={**{name: str(value) for name, value in vars(arguments).items()}, "model": model},
        tables=tables,
        plots=[plot],
        notes=["The engine's prefix cache is kept from helping: every ranking has a cache salt of its own."],
    )
    print(f"\nreport: {path}")


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with candidates, such as msmarco-dl19")
    parser.add_argument("--first-stage", default="bm25", help="the run below its runs/ that holds the candidates")
    parser.add_argument("--queries", type=int, default=5, help="how many queries, the first by id")
    parser.add_argument("--candidates", type=int, default=100, help="candidates per query")
    parser.add_argument("--passage-words", type=int, default=40, help="words of a passage, alike for all, so that 100 fit")
    parser.add_argument("--out", type=Path, default=Path("reports"), help="folder for the report")
    try:
        asyncio.run(_main(parser.parse_args()))
    except RagServerError as error:
        print(f"run_latency: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
