"""Reranks the candidates of a first stage, beside rankings that are stored, and prints how good they are and what they took.

python -m eval.run_rerank --data FOLDER --first-stage bm25 --compare bm25+rankmistral100-fullranking --rerankers embedding
"""

import argparse
import asyncio
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track

from eval.engine import engine_of
from eval.ranking.datasets import RerankingDataset, load_reranking, load_stored_run
from eval.ranking.measures import MAP, MRR_10, NDCG_5, NDCG_10, Measured, measure
from eval.ranking.rankings import RankingCollector, Rankings, Run
from eval.ranking.report import cost_table, ndcg_series, significance_note
from eval.ranking.trec import RunRecord, write_run
from eval.ranking.variants import NamedReranker, build, parse_variants
from eval.report import Cell, Plot, Table, as_text, write_report
from eval.significance import paired_p_value
from rag_server.config import load_settings
from rag_server.errors import RagServerError, RerankError
from rag_server.protocols import Reranker
from rag_server.types import Passage, Ranking

QUALITY = ("ranking", NDCG_10, "low", "high", NDCG_5, MAP, MRR_10, "p", "failed")


@dataclass(frozen=True, slots=True)
class Row:
    """A ranking that is compared; `made` is None where it was stored."""

    name: str
    measured: Measured
    made: Rankings | None = None


async def rerank_all(dataset: RerankingDataset, reranker: Reranker, *, name: str) -> Rankings:
    """Rerank the candidates of each query; one whose reranking fails ranks nothing."""
    collector = RankingCollector()
    for query_id in track(list(dataset.queries), description=name, console=Console(stderr=True)):
        candidates = dataset.candidates[query_id]
        try:
            ranking = _complete(await reranker.rerank(dataset.queries[query_id], candidates), candidates)
        except RagServerError as error:
            collector.fail(query_id, f"{type(error).__name__}: {error}")
        else:
            collector.add(query_id, (passage.document_id for passage in ranking.passages), ranking.report)
    return collector.rankings()


def _complete(ranking: Ranking, candidates: Sequence[Passage]) -> Ranking:
    if sorted(passage.id for passage in ranking.passages) != sorted(passage.id for passage in candidates):
        raise RerankError(f"{len(ranking.passages)} passages came back of {len(candidates)}, some of them lost or repeated")
    return ranking


async def evaluate(
    dataset: RerankingDataset, *, compared: Mapping[str, Run], rerankers: Sequence[NamedReranker], out: Path, command: str
) -> bool:
    """Measure the first stage, the stored rankings and every reranker; print the tables, and write the runs and a report.

    Returns:
        Whether no query failed.

    Raises:
        ConfigError: A stored ranking is not over the data set's queries.
    """
    first_stage = {
        query_id: {passage.document_id: passage.score for passage in passages}
        for query_id, passages in dataset.candidates.items()
    }
    stored = {dataset.first_stage: first_stage, **compared}
    rows = [Row(name, _measured(dataset, run)) for name, run in stored.items()]
    for named in rerankers:
        rankings = await rerank_all(dataset, named.reranker, name=named.name)
        rows.append(Row(named.name, _measured(dataset, rankings.run), rankings))
        _write_run(out / "runs", named, rows[-1], rankings)
    settings = {named.name: {"model": named.model, **named.settings} for named in rerankers}
    _report(dataset, rows, settings, out=out, command=command)
    return not any(row.made.failed for row in rows if row.made is not None)


def _report(dataset: RerankingDataset, rows: Sequence[Row], settings: Mapping[str, object], *, out: Path, command: str) -> None:
    made = {row.name: row.made for row in rows if row.made is not None}
    tables = [_quality(dataset, rows)]
    if made:
        tables.append(cost_table(("ranking",), {(name,): rankings for name, rankings in made.items()}))
    for table in tables:
        print(f"\n{as_text(table)}")
    notes = [line for name, rankings in made.items() for line in rankings.faults(name)]
    notes.append(significance_note(dataset.first_stage))
    notes.append(f"{MAP} and {MRR_10} count grades from {dataset.relevant_from} as relevant.")
    title = f"Reranking {dataset.name} after {dataset.first_stage}"
    plots = [_plot(title, rows)]
    path = write_report(out, title=title, command=command, settings=settings, tables=tables, plots=plots, notes=notes)
    print("", *notes, f"report: {path}", sep="\n")


def _measured(dataset: RerankingDataset, run: Run) -> Measured:
    return measure(dataset.qrels, run, relevant_from=dataset.relevant_from)


def _quality(dataset: RerankingDataset, rows: Sequence[Row]) -> Table:
    def cells(row: Row) -> tuple[Cell, ...]:
        ndcg = row.measured.interval(NDCG_10)
        others = (row.measured.mean(name) for name in (NDCG_5, MAP, MRR_10))
        first = rows[0].measured.per_query[NDCG_10]
        p_value = None if row is rows[0] else paired_p_value(row.measured.per_query[NDCG_10], first)
        num_failed = 0 if row.made is None else len(row.made.failed)
        return (row.name, ndcg.mean, ndcg.low, ndcg.high, *others, p_value, num_failed)

    return Table(
        f"{dataset.name}: {len(dataset.queries)} queries, judged by {dataset.judgments}", QUALITY, tuple(map(cells, rows))
    )


def _plot(title: str, rows: Sequence[Row]) -> Plot:
    series = ndcg_series(NDCG_10, range(len(rows)), [row.measured for row in rows])
    names = tuple(row.name for row in rows)
    return Plot("ndcg.png", title, x_label="", y_label=f"{NDCG_10}, 95 % interval", series=(series,), categories=names)


def _write_run(folder: Path, named: NamedReranker, row: Row, rankings: Rankings) -> None:
    record = RunRecord(settings=named.settings, models={"reranker": named.model}, measures=row.measured.means())
    # A variant's options may hold a path.
    tag = re.sub(r"[^\w=+-]+", "_", named.name)
    write_run(folder / f"{tag}.trec", rankings, tag=tag, record=record)


async def _main(arguments: argparse.Namespace) -> bool:
    settings = load_settings()
    dataset = load_reranking(
        arguments.data,
        first_stage=arguments.first_stage,
        judgments=arguments.judgments,
        num_queries=arguments.queries,
        num_candidates=arguments.candidates,
    )
    compared = {Path(name).name: load_stored_run(dataset, name) for name in arguments.compare}
    variants = parse_variants(arguments.rerankers, settings)
    async with engine_of(settings, needed=any(variant.asks_engine for variant in variants)) as engine:
        rerankers = [await build(variant, engine) for variant in variants]
        out = arguments.out / f"rerank-{dataset.name}-{arguments.first_stage}"
        command = shlex.join(["python", "-m", "eval.run_rerank", *sys.argv[1:]])
        return await evaluate(dataset, compared=compared, rerankers=rerankers, out=out, command=command)


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with corpus, queries, judgments and runs")
    parser.add_argument("--first-stage", required=True, help="the run whose candidates are reranked, such as bm25")
    parser.add_argument("--judgments", help="full or pool, where the folder has both (default: full)")
    parser.add_argument("--compare", nargs="+", default=[], help="stored rankings: names of runs in the folder, or files")
    parser.add_argument(
        "--rerankers", default="", help="separated by commas, with options: embedding,full_ranking:format=compact:top_m=10"
    )
    parser.add_argument("--queries", type=_positive, help="only the first so many queries, by id")
    parser.add_argument("--candidates", type=_positive, default=100, help="how many of each query's candidates are reranked")
    parser.add_argument("--out", type=Path, default=Path("reports"), help="folder for the report and the run files")
    try:
        return 0 if asyncio.run(_main(parser.parse_args())) else 1
    except RagServerError as error:
        print(f"run_rerank: {error}", file=sys.stderr)
        return 1


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number from 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
