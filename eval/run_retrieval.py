"""Runs judged queries through the public search endpoint and prints nDCG@10 and recall@100.

python -m eval.run_retrieval --dataset scifact
"""

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import httpx
import ir_measures
from ir_measures import R, nDCG

from eval.datasets import RetrievalDataset, load_beir
from rag_server.commands.serving import temporary_server
from rag_server.config import load_settings
from rag_server.errors import NotFoundError, RagServerError
from rag_server.protocols import Json
from rag_server.services import Address, read_address

# The most that OpenAI's search endpoint returns; passages, of which a document may have several.
MAX_RESULTS = 50
MEASURES = {"nDCG@10": nDCG @ 10, "recall@100": R @ 100}

# Query id -> document id -> score.
Run = dict[str, dict[str, float]]


async def run_queries(
    client: httpx.AsyncClient, dataset: RetrievalDataset, *, collection: str, kind: str
) -> tuple[Run, list[str]]:
    """Return the ranked documents of each query and the ids of the queries that failed, which rank nothing."""
    run: Run = {}
    failed: list[str] = []
    for number, (query_id, text) in enumerate(dataset.queries.items(), start=1):
        body = {"query": text, "max_num_results": MAX_RESULTS, "rag": {"retrieve": kind}}
        response = await client.post(f"/v1/vector_stores/{collection}/search", json=body)
        run[query_id] = {}
        if response.status_code == 404:
            raise NotFoundError(
                f"{response.json()['error']['message']}; for this data set: "
                f"rag-server index {dataset.corpus_path} --collection {collection}"
            )
        if response.status_code == 200:
            run[query_id] = ranked_documents(response.json()["data"])
        else:
            failed.append(query_id)
        print(f"\r{kind}: {number}/{len(dataset.queries)}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return run, failed


def ranked_documents(results: Sequence[Json]) -> dict[str, float]:
    """Return document id -> score, each document where its best passage is; scores fall by rank, to keep the order of ties."""
    documents = dict.fromkeys(str(result["attributes"]["document_id"]) for result in results)
    return {document_id: float(len(documents) - rank) for rank, document_id in enumerate(documents)}


def measure(qrels: Mapping[str, Mapping[str, int]], run: Run) -> dict[str, float]:
    """Return each measure, averaged over all judged queries: one that ranks nothing counts as zero."""
    values = ir_measures.calc_aggregate(list(MEASURES.values()), qrels, run)
    return {name: float(values[metric]) for name, metric in MEASURES.items()}


def write_run(path: Path, run: Run, *, tag: str) -> None:
    """Write a run file in TREC's format."""
    with path.open("w", encoding="utf-8") as file:
        for query_id, documents in run.items():
            for rank, (document_id, score) in enumerate(documents.items(), start=1):
                file.write(f"{query_id} Q0 {document_id} {rank} {score} {tag}\n")


async def evaluate(dataset: RetrievalDataset, address: Address, *, collection: str, kinds: Sequence[str], out: Path) -> bool:
    """Measure each kind of retrieval, print a table and write the run files; return whether no query failed."""
    out.mkdir(parents=True, exist_ok=True)
    complete = True
    headers = {"authorization": f"Bearer {address.secret}"} if address.secret else {}
    async with httpx.AsyncClient(base_url=address.url, headers=headers, timeout=60.0, trust_env=False) as client:
        version = (await client.get("/health")).json()["version"]
        print(f"{dataset.name}: {len(dataset.queries)} judged queries over {address.url}, rag-server {version}")
        print(f"{'retrieval':<10}" + "".join(f"{name:>12}" for name in MEASURES) + f"{'failed':>8}")
        for kind in kinds:
            run, failed = await run_queries(client, dataset, collection=collection, kind=kind)
            values = measure(dataset.qrels, run)
            print(f"{kind:<10}" + "".join(f"{value:>12.4f}" for value in values.values()) + f"{len(failed):>8}")
            write_run(out / f"{dataset.name}-{kind}.run", run, tag=kind)
            record = {"dataset": dataset.name, "retrieve": kind, "version": version, "measures": values, "failed": failed}
            record["date"] = datetime.now(UTC).isoformat()
            (out / f"{dataset.name}-{kind}.json").write_text(json.dumps(record, indent=2))
            complete = complete and not failed
    return complete


@contextlib.asynccontextmanager
async def server(url: str | None) -> AsyncIterator[Address]:
    """Give the address of the named server, of the running one, or of one for the moment."""
    settings = load_settings()
    address = read_address(settings.data_dir) if url is None else Address(url, "")
    if address is not None and await _answers(address.url):
        yield address
    elif url is not None:
        raise RagServerError(f"{url} does not answer")
    else:
        async with temporary_server(settings, with_engine=False) as temporary:
            yield temporary


async def _answers(address: str) -> bool:
    try:
        async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
            return (await client.get(f"{address}/health")).status_code == 200
    except httpx.HTTPError:
        return False


async def _main(arguments: argparse.Namespace) -> bool:
    dataset = load_beir(arguments.dataset)
    collection = arguments.collection or arguments.dataset
    async with server(arguments.url) as address:
        return await evaluate(dataset, address, collection=collection, kinds=arguments.kinds.split(","), out=arguments.out)


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="a folder below RAG_EVAL_DATA, such as scifact")
    parser.add_argument("--collection", help="the collection that holds its corpus (default: the data set's name)")
    parser.add_argument("--url", help="the server (default: the running one, or one for the moment)")
    parser.add_argument("--kinds", default="dense,lexical,hybrid", help="kinds of retrieval, separated by commas")
    parser.add_argument("--out", type=Path, default=Path("reports"), help="folder for run files")
    try:
        return 0 if asyncio.run(_main(parser.parse_args())) else 1
    except RagServerError as error:
        print(f"run_retrieval: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
