"""Makes a label file for rankers of a data set: candidates ordered by the judgments, or by a teacher.

python -m eval.tuning.ranking_labels --dataset nfcorpus-train --out labels.jsonl
python -m eval.tuning.ranking_labels --dataset hotpotqa --teacher sliding_window:format=paper --out labels.jsonl

What is held out, by a hash, is left out, or with --held-out is all that is written; a test query's words are in neither.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.progress import track

from eval.command import run_command
from eval.engine import engine_of
from eval.qa.datasets import load_questions
from eval.ranking.datasets import RetrievalDataset, json_rows, load_beir
from eval.ranking.variants import build, parse_variants
from eval.tuning.first_stage import FirstStageKind, build_first_stage
from eval.tuning.splits import held_out, trained_on
from rag_server.config import load_settings
from rag_server.errors import ConfigError
from rag_server.factory import load_embedder
from rag_server.learning.splits import content_hash, is_held_out
from rag_server.protocols import Embedder, Reranker
from rag_server.types import RankingReport
from rerankers.training.labels import WINDOW, Candidate, RankingLabel, judged_label, teacher_label, write_labels

JUDGMENTS = {"nfcorpus-train": "qrels.train.tsv.gz", "nfcorpus-dev": "qrels.dev.tsv", "scifact-train": "qrels.train.tsv"}
MULTI_HOP = ("hotpotqa", "2wikimultihopqa")
DATASETS = (*JUDGMENTS, *MULTI_HOP)
JUDGED = "judgments"
# The teacher that orders window by window, of which a pass gets only the best right.
WINDOWED = "sliding_window"


@dataclass(frozen=True, slots=True)
class Collection:
    """Documents, and queries with the grades of documents, by id."""

    documents: tuple[Candidate, ...]
    queries: Mapping[str, str]
    grades: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Split:
    """The share that is held out, and whether that is what is wanted, or the rest."""

    share: float = 0.2
    held_out: bool = False


def load_collection(name: str, split: Split) -> Collection:
    """Return one side of a data set to train on, or the judged test queries of one of BEIR's.

    Raises:
        ConfigError: Its files are not where RAG_EVAL_DATA says, or are malformed.
    """
    if name in MULTI_HOP:
        return _multi_hop(name, split)
    if name not in JUDGMENTS:
        return _of_beir(load_beir(name))
    of_set = name.rpartition("-")[0]
    tested = {content_hash(query) for query in load_beir(of_set).queries.values()}
    collection = _of_beir(load_beir(of_set, judgments=JUDGMENTS[name]))
    queries = {
        id_: query
        for id_, query in collection.queries.items()
        if is_held_out(id_, split.share) == split.held_out and content_hash(query) not in tested
    }
    return Collection(collection.documents, queries, collection.grades)


def _of_beir(dataset: RetrievalDataset) -> Collection:
    documents = [
        Candidate(id=str(row["_id"]), title=str(row.get("title") or ""), text=str(row["text"]))
        for row in json_rows(dataset.corpus_path)
        if str(row["text"]).strip()
    ]
    return Collection(tuple(documents), dataset.queries, dataset.qrels)


def _multi_hop(name: str, split: Split) -> Collection:
    """Return all passages of all questions as one collection; the gold ones of a question are what is relevant to it."""
    dataset = load_questions(name)
    questions = (held_out if split.held_out else trained_on)(dataset.questions, split.share)
    id_of = {context.text: str(number) for number, context in enumerate(dataset.pool)}
    documents = [Candidate(id=id_of[one.text], title=one.title, text=one.text) for one in dataset.pool if one.text.strip()]
    grades = {
        question.id: {id_of[context.text]: 1 for context in question.contexts if context.is_gold} for question in questions
    }
    return Collection(tuple(documents), {question.id: question.question for question in questions}, grades)


def find_candidates(
    collection: Collection, kind: FirstStageKind, embedder: Embedder, *, num_candidates: int
) -> dict[str, list[Candidate]]:
    """Return what the first stage finds for each query; queries without a relevant passage in it are left out."""
    with tempfile.TemporaryDirectory() as folder:
        first_stage = build_first_stage(collection.documents, kind, embedder, Path(folder) / "bm25")
        found = {
            query_id: first_stage.search(query, num_candidates)
            for query_id, query in track(
                list(collection.queries.items()), description="first stage", console=Console(stderr=True)
            )
        }
    return {
        query_id: candidates
        for query_id, candidates in found.items()
        if len(candidates) > 1 and any(collection.grades[query_id].get(one.id, 0) > 0 for one in candidates)
    }


def judged_labels(collection: Collection, candidates: Mapping[str, Sequence[Candidate]]) -> list[RankingLabel]:
    """Return labels in the order of the judgments."""
    return [
        judged_label(query_id, collection.queries[query_id], found, collection.grades[query_id])
        for query_id, found in candidates.items()
    ]


async def teacher_labels(
    teacher: Reranker, queries: Mapping[str, str], candidates: Mapping[str, Sequence[Candidate]], *, window: int | None
) -> AsyncIterator[tuple[RankingLabel, RankingReport]]:
    """Yield labels in the teacher's order, and what each took."""
    for query_id, found in track(list(candidates.items()), description="labels", console=Console(stderr=True)):
        yield await teacher_label(teacher, query_id, queries[query_id], found, window=window)


async def _write_teacher_labels(path: Path, name: str, collection: Collection, found: Mapping[str, Sequence[Candidate]]) -> int:
    """Write the labels of a teacher named as eval.run_rerank names rerankers, and say how well it kept to the format."""
    (variant,) = parse_variants(name, load_settings())
    async with engine_of(variant.settings, needed=variant.asks_engine) as engine:
        teacher = (await build(variant, engine)).reranker
        window = WINDOW if variant.kind == WINDOWED else None
        labels, total = [], RankingReport()
        async for label, report in teacher_labels(teacher, collection.queries, found, window=window):
            labels.append(label)
            total += report
    print(f"{total.calls} calls, {total.repaired} outputs repaired, {total.missing} passages not named", file=sys.stderr)
    return write_labels(path, labels)


def _run(given: argparse.Namespace, _: str) -> None:
    collection = load_collection(given.dataset, Split(given.held_out_share, given.held_out))
    queries = dict(list(collection.queries.items())[: given.num_queries])
    collection = Collection(collection.documents, queries, collection.grades)
    embedder = load_embedder(load_settings())
    found = find_candidates(collection, given.first_stage, embedder, num_candidates=given.num_candidates)
    if not found:
        raise ConfigError(f"no query of {given.dataset} has a relevant passage among its candidates: ask for more of them")
    if given.teacher == JUDGED:
        number = write_labels(given.out, judged_labels(collection, found))
    else:
        number = asyncio.run(_write_teacher_labels(given.out, given.teacher, collection, found))
    print(f"{given.out}: {number:,} labels of {len(collection.queries):,} queries")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the status is 1 where there are no labels in the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=DATASETS, required=True)
    parser.add_argument("--first-stage", choices=get_args(FirstStageKind), default="hybrid", help="what finds the candidates")
    parser.add_argument("--num-candidates", type=int, default=20)
    parser.add_argument("--num-queries", type=int, help="only the first so many")
    parser.add_argument("--teacher", default=JUDGED, help=f"{JUDGED}, or a reranker as eval.run_rerank names them")
    parser.add_argument("--held-out-share", type=float, default=Split().share)
    parser.add_argument("--held-out", action="store_true", help="write what is held out, not the rest")
    parser.add_argument("--out", type=Path, required=True, help="label file")
    return run_command("tuning.ranking_labels", parser, _run, arguments)


if __name__ == "__main__":
    sys.exit(main())
