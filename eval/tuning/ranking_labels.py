"""Makes a label file for rankers of a data set: candidates ordered by the judgments, or by a teacher.

python -m eval.tuning.ranking_labels --dataset nfcorpus-train --out labels.jsonl
python -m eval.tuning.ranking_labels --dataset hotpotqa --teacher sliding_window:format=paper --out labels.jsonl

What is held out, by a hash, is left out, or with --held-out is all that is written; a test query's words are in neither.
A teacher's labels are kept as they come: a run that was interrupted goes on when the same command is given again.
"""

import argparse
import asyncio
import hashlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.progress import track

from eval.command import run_command
from eval.engine import engine_of
from eval.qa.datasets import load_questions
from eval.ranking.datasets import RetrievalDataset, json_rows, load_beir
from eval.ranking.variants import Variant, build, parse_variants
from eval.tuning.first_stage import FirstStageKind, build_first_stage
from eval.tuning.kept_labels import KeptLabels
from eval.tuning.splits import held_out, trained_on
from rag_server.config import load_settings
from rag_server.errors import ConfigError
from rag_server.factory import load_embedder
from rag_server.learning.splits import content_hash, is_held_out
from rag_server.protocols import Embedder, Reranker
from rag_server.types import RankingReport
from rerankers.training.labels import WINDOW, Candidate, RankingLabel, judged_label, teacher_label, write_labels

JUDGMENTS = {"nfcorpus-train": "qrels.train.tsv.gz", "nfcorpus-dev": "qrels.dev.tsv", "scifact-train": "qrels.train.tsv"}
QUESTION_SETS = ("xquad-en", "litm-oracle", "hotpotqa", "2wikimultihopqa")
DATASETS = (*JUDGMENTS, *QUESTION_SETS)
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
    if name in QUESTION_SETS:
        return _of_questions(name, split)
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


def _of_questions(name: str, split: Split) -> Collection:
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


def balanced(labels: Sequence[RankingLabel]) -> list[RankingLabel]:
    """Return as many labels whose best passage stands first already as of the others, in their order.

    Where the first stage is right nine times of ten, a model learns soonest to repeat it.
    """
    num_misplaced = sum(label.permutation[0] != 0 for label in labels)
    in_place = [label.query_id for label in labels if label.permutation[0] == 0]
    chosen = set(sorted(in_place, key=content_hash)[:num_misplaced])
    return [label for label in labels if label.permutation[0] != 0 or label.query_id in chosen]


async def teacher_labels(
    teacher: Reranker,
    queries: Mapping[str, str],
    candidates: Mapping[str, Sequence[Candidate]],
    kept: KeptLabels,
    *,
    window: int | None,
) -> tuple[list[RankingLabel], RankingReport]:
    """Return labels in the teacher's order, and what it took; it is not asked again for those that are kept."""
    labels, total = [], RankingReport()
    for query_id, found in track(list(candidates.items()), description="labels", console=Console(stderr=True)):
        label = kept.find(query_id, queries[query_id], found)
        if label is None:
            label, report = await teacher_label(teacher, query_id, queries[query_id], found, window=window)
            kept.add(label)
            total += report
        labels.append(label)
    return labels, total


async def _labels_of_teacher(
    variant: Variant, collection: Collection, found: Mapping[str, Sequence[Candidate]], kept: KeptLabels
) -> list[RankingLabel]:
    """Return the teacher's labels, and say how well it kept to the format."""
    async with engine_of(variant.settings, needed=variant.asks_engine) as engine:
        teacher = (await build(variant, engine)).reranker
        window = WINDOW if variant.kind == WINDOWED else None
        labels, total = await teacher_labels(teacher, collection.queries, found, kept, window=window)
    print(f"{total.calls} calls, {total.repaired} outputs repaired, {total.missing} passages not named", file=sys.stderr)
    return labels


def _kept_path(out: Path, variant: Variant) -> Path:
    """Return where a teacher's labels are kept; one with other settings has another file."""
    asked = f"{variant.name} {variant.settings.model_dump_json(include={'engine', 'embedder', 'rerank'})}"
    return out.with_name(f"{out.name}.{hashlib.sha256(asked.encode()).hexdigest()[:16]}.part")


def _write(given: argparse.Namespace, labels: Sequence[RankingLabel]) -> int:
    return write_labels(given.out, balanced(labels) if given.balanced else labels)


def _run(given: argparse.Namespace, _: str) -> None:
    collection = load_collection(given.dataset, Split(given.held_out_share, given.held_out))
    queries = dict(list(collection.queries.items())[: given.num_queries])
    collection = Collection(collection.documents, queries, collection.grades)
    embedder = load_embedder(load_settings())
    found = find_candidates(collection, given.first_stage, embedder, num_candidates=given.num_candidates)
    if not found:
        raise ConfigError(f"no query of {given.dataset} has a relevant passage among its candidates: ask for more of them")
    if given.teacher == JUDGED:
        number = _write(given, judged_labels(collection, found))
    else:
        # Named as eval.run_rerank names rerankers.
        (variant,) = parse_variants(given.teacher, load_settings())
        kept = KeptLabels(_kept_path(given.out, variant))
        number = _write(given, asyncio.run(_labels_of_teacher(variant, collection, found, kept)))
        kept.remove()
    print(f"{given.out}: {number:,} labels of {len(collection.queries):,} queries")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the status is 1 where there are no labels in the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=DATASETS, required=True)
    parser.add_argument("--first-stage", choices=get_args(FirstStageKind), default="hybrid", help="what finds the candidates")
    parser.add_argument("--num-candidates", type=int, default=20)
    parser.add_argument("--num-queries", type=int, help="only the first so many")
    parser.add_argument("--teacher", default=JUDGED, help=f"{JUDGED}, or a reranker as eval.run_rerank names them")
    parser.add_argument(
        "--balanced", action="store_true", help="of queries whose best passage is found first, only as many as of others"
    )
    parser.add_argument("--held-out-share", type=float, default=Split().share)
    parser.add_argument("--held-out", action="store_true", help="write what is held out, not the rest")
    parser.add_argument("--out", type=Path, required=True, help="label file")
    return run_command("tuning.ranking_labels", parser, _run, arguments)


if __name__ == "__main__":
    sys.exit(main())
