"""Runs judged queries through the public search endpoint and prints nDCG@10 and recall@100 of every kind in one table.

python -m eval.run_retrieval --dataset scifact,nfcorpus,cranfield --index --rerankers full_ranking
"""

import argparse
import asyncio
import contextlib
import shlex
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from eval.ranking.datasets import RetrievalDataset, load_beir
from eval.ranking.measures import NDCG_10, RECALL_100, Measured, measure
from eval.ranking.rankings import Rankings
from eval.ranking.report import cost_table, ndcg_series, significance_note
from eval.ranking.searching import MAX_RESULTS, Stages, collection_id, search_all, wait_for_engine
from eval.ranking.trec import RunRecord, write_run
from eval.ranking.variants import DEADLINE_S, LISTWISE
from eval.report import Cell, Plot, Table, as_text, write_report
from eval.significance import paired_p_value
from rag_server import factory
from rag_server.commands.indexing import FileOptions, run_index
from rag_server.commands.serving import temporary_server
from rag_server.config import Settings, load_settings
from rag_server.errors import ConfigError, NotFoundError, RagServerError
from rag_server.services import Address, read_address
from rag_server.types import Access

# What the others are compared with, and what the rerankers reorder.
BASELINE = "hybrid"
COLUMNS = ("data set", "search", NDCG_10, "low", "high", RECALL_100, "p", "seconds", "fallback", "failed")
# Of these settings the figures depend.
SECTIONS = ("embedder", "chunking", "index", "retrieve", "rerank", "engine")
# A listwise model on a CPU takes minutes for a query.
TIMEOUT_S = DEADLINE_S + 60


@dataclass(frozen=True, slots=True)
class Row:
    """How one kind of search does on one data set."""

    dataset: str
    stages: Stages
    measured: Measured
    rankings: Rankings

    @property
    def name(self) -> str:
        """Data set and stages in one word, which names the files."""
        return f"{self.dataset}-{self.stages.name}"


@dataclass(frozen=True, slots=True)
class Server:
    """Where the server is; `settings` are those that its data directory is read with, None for one elsewhere."""

    address: Address
    settings: Settings | None

    def client(self) -> httpx.AsyncClient:
        """Return a client that speaks to it, with its key if it has one, and waits for a listwise model."""
        headers = {"authorization": f"Bearer {self.address.secret}"} if self.address.secret else {}
        return httpx.AsyncClient(base_url=self.address.url, headers=headers, timeout=TIMEOUT_S, trust_env=False)


async def evaluate(
    datasets: Mapping[str, RetrievalDataset], server: Server, *, stages: Sequence[Stages], out: Path, command: str
) -> bool:
    """Measure each kind of search on each data set (by its collection); print a table, write the runs and a report.

    Returns:
        Whether no query failed.

    Raises:
        NotFoundError: A collection is missing; the message says how the data set is indexed.
        ConfigError: The server does not have one of the stages.
    """
    rows = []
    async with server.client() as client:
        ids = {name: await collection_id(client, dataset, collection=name) for name, dataset in datasets.items()}
        if any(kind.rerank in LISTWISE for kind in stages):
            await wait_for_engine(client)
        for collection, dataset in datasets.items():
            for kind in stages:
                rankings = await search_all(client, dataset, kind, collection=collection)
                rows.append(Row(dataset.name, kind, measure(dataset.qrels, rankings.run), rankings))
                record = _record(rows[-1], server, index=ids[collection])
                write_run(out / "runs" / f"{rows[-1].name}.trec", rankings, tag=kind.name, record=record)
    _report(rows, server, out=out, command=command)
    return not any(row.rankings.failed for row in rows)


def _record(row: Row, server: Server, *, index: str) -> RunRecord:
    settings = {"request": row.stages.request, **_settings(server)}
    models = {} if server.settings is None else _models(server.settings, index, row.stages)
    return RunRecord(settings=settings, models=models, measures=row.measured.means(), index=index)


def _settings(server: Server) -> dict[str, object]:
    if server.settings is None:
        return {"server": server.address.url}
    return {name: getattr(server.settings, name).model_dump(mode="json") for name in SECTIONS}


def _models(settings: Settings, index: str, stages: Stages) -> dict[str, str | None]:
    store = factory.open_store(settings)
    embedding = store.vector_stores.get(index, Access()).embedding_model
    store.database.close()
    ranking = settings.rerank.model or (settings.engine.model if stages.rerank in LISTWISE else None)
    return {"embedding": embedding, "reranker": ranking}


def _report(rows: Sequence[Row], server: Server, *, out: Path, command: str) -> None:
    tables = [_quality(rows)]
    reranked: dict[tuple[str, ...], Rankings] = {
        (row.dataset, row.stages.name): row.rankings for row in rows if row.stages.rerank != "none"
    }
    if reranked:
        tables.append(cost_table(("data set", "search"), reranked))
    for table in tables:
        print(f"\n{as_text(table)}")
    notes = [line for row in rows for line in row.rankings.faults(row.name)]
    notes.append(significance_note(BASELINE))
    notes.append(f"The endpoint returns at most {MAX_RESULTS} passages, so {RECALL_100} is that of their documents.")
    settings, title = _settings(server), "Retrieval over the search endpoint"
    path = write_report(out, title=title, command=command, settings=settings, tables=tables, plots=[_plot(rows)], notes=notes)
    print("", *notes, f"report: {path}", sep="\n")


def _quality(rows: Sequence[Row]) -> Table:
    baselines = {row.dataset: row.measured.per_query[NDCG_10] for row in rows if row.stages == Stages(BASELINE)}

    def cells(row: Row) -> tuple[Cell, ...]:
        ndcg, baseline = row.measured.interval(NDCG_10), baselines.get(row.dataset)
        values = row.measured.per_query[NDCG_10]
        p_value = None if baseline is None or baseline is values else paired_p_value(values, baseline)
        quality = (ndcg.mean, ndcg.low, ndcg.high, row.measured.mean(RECALL_100), p_value)
        cost = (row.rankings.report.seconds, row.rankings.num_fallbacks, len(row.rankings.failed))
        return (row.dataset, row.stages.name, *quality, *cost)

    return Table("Retrieval; seconds are those of reranking", COLUMNS, tuple(map(cells, rows)))


def _plot(rows: Sequence[Row]) -> Plot:
    datasets = tuple(dict.fromkeys(row.dataset for row in rows))
    series = []
    for name in dict.fromkeys(row.stages.name for row in rows):
        of_kind = [row for row in rows if row.stages.name == name]
        places = [datasets.index(row.dataset) for row in of_kind]
        series.append(ndcg_series(name, places, [row.measured for row in of_kind]))
    return Plot("ndcg.png", "Retrieval", "", f"{NDCG_10}, 95 % interval", tuple(series), categories=datasets)


@contextlib.asynccontextmanager
async def serving(url: str | None, settings: Settings, *, with_engine: bool) -> AsyncIterator[Server]:
    """Give the named server, the running one of the data directory, or one for the moment.

    Raises:
        RagServerError: The named server does not answer.
    """
    address = read_address(settings.data_dir) if url is None else Address(url, "")
    if address is not None and await _answers(address.url):
        yield Server(address, settings if url is None else None)
    elif url is not None:
        raise RagServerError(f"{url} does not answer; start it, or name another with --url")
    else:
        async with temporary_server(settings, with_engine=with_engine) as temporary:
            yield Server(temporary, settings)


async def _answers(address: str) -> bool:
    try:
        async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
            return (await client.get(f"{address}/health")).status_code == 200
    except httpx.HTTPError:
        return False


def index_missing(settings: Settings, datasets: Mapping[str, RetrievalDataset]) -> None:
    """Index the corpus of each data set whose collection is missing, or has no file that was read to its end.

    Documents without text are told and left out; a query they are relevant to does without them.

    Raises:
        RagServerError: A corpus could not be indexed; why is printed.
    """
    for collection, dataset in datasets.items():
        if _is_indexed(settings, collection):
            continue
        paths, options = [dataset.corpus_path], FileOptions()
        run_index(settings, paths, collection=collection, options=options, prune=False, assume_yes=True, as_json=False)
        if not _is_indexed(settings, collection):
            raise RagServerError(f"{dataset.corpus_path} could not be indexed; correct what is named above")


def _is_indexed(settings: Settings, collection: str) -> bool:
    store = factory.open_store(settings)
    try:
        vector_store = store.vector_stores.get(collection, Access())
        return store.files.counts(vector_store, Access())["completed"] > 0
    except NotFoundError:
        return False
    finally:
        store.database.close()


def _datasets(names: str, collection: str | None, num_queries: int | None) -> dict[str, RetrievalDataset]:
    """Return the data sets by their collections."""
    datasets = [load_beir(name, num_queries=num_queries) for name in names.split(",")]
    if collection is None:
        return {dataset.name: dataset for dataset in datasets}
    if len(datasets) > 1:
        raise ConfigError("--collection names one collection, which cannot hold several data sets; name one with --dataset")
    return {collection: datasets[0]}


def _stages(kinds: str, rerankers: str) -> list[Stages]:
    reranked = [Stages(BASELINE, kind) for kind in rerankers.split(",") if kind]
    return [*(Stages(kind) for kind in kinds.split(",") if kind), *reranked]


async def _main(arguments: argparse.Namespace) -> bool:
    settings = load_settings()
    # What is measured is the reranker, not how often it is given up on.
    if "deadline_s" not in settings.rerank.model_fields_set:
        settings = settings.model_copy(update={"rerank": settings.rerank.model_copy(update={"deadline_s": DEADLINE_S})})
    datasets = _datasets(arguments.dataset, arguments.collection, arguments.queries)
    stages = _stages(arguments.kinds, arguments.rerankers)
    if arguments.index:
        index_missing(settings, datasets)
    command = shlex.join(["python", "-m", "eval.run_retrieval", *sys.argv[1:]])
    with_engine = any(kind.rerank in LISTWISE for kind in stages)
    async with serving(arguments.url, settings, with_engine=with_engine) as server:
        return await evaluate(datasets, server, stages=stages, out=arguments.out / "retrieval", command=command)


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="folders below RAG_EVAL_DATA, separated by commas, such as scifact")
    parser.add_argument("--collection", help="the collection that holds its corpus (default: the data set's name)")
    parser.add_argument("--index", action="store_true", help="index a corpus whose collection is missing first")
    parser.add_argument("--url", help="the server (default: the running one, or one for the moment)")
    parser.add_argument("--kinds", default="dense,lexical,hybrid", help="kinds of retrieval, separated by commas")
    parser.add_argument("--rerankers", default="", help="kinds of reranking after hybrid retrieval, separated by commas")
    parser.add_argument("--queries", type=int, help="only the first so many queries of each, by id")
    parser.add_argument("--out", type=Path, default=Path("reports"), help="folder for the report and the run files")
    try:
        return 0 if asyncio.run(_main(parser.parse_args())) else 1
    except RagServerError as error:
        print(f"run_retrieval: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
