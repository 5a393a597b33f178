"""Measures what a follow-up question finds: as it was asked, with the conversation before it, and as the engine rewrites it.

python -m eval.run_rewriting --questions 30

The conversations are made of neighbouring questions about a paragraph by a rule that eval/ranking/follow_ups.py states. All 240
paragraphs are searched through the served query flow, and the paragraph of the question is the one that is looked for.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from eval.command import run_command
from eval.engine import engine_of
from eval.qa.arguments import at_least_one
from eval.qa.datasets import QaDataset, load_questions
from eval.ranking.follow_ups import FollowUp, follow_ups
from eval.ranking.measures import MRR_10, NDCG_10, Measured, measure
from eval.ranking.rankings import scores_by_rank
from eval.report import Cell, Table, as_text, write_report
from eval.significance import check_same_queries, paired_p_value, wilson_interval
from eval.temporary_collections import temporary_collections
from rag_server.config import Settings, load_settings
from rag_server.factory import default_options
from rag_server.observability import StageTimer
from rag_server.pipeline import RagPipeline
from rag_server.protocols import Json
from rag_server.types import Query, VectorStore

COLLECTION = "paragraphs"
LAST, CONVERSATION, REWRITTEN, STANDALONE = "last turn", "whole conversation", "rewritten", "standalone"
# What the others are compared with.
BASELINE = LAST
TOP = 5
NUM_RESULTS = 50
COLUMNS = ("searched for", NDCG_10, "low", "high", "p", MRR_10, f"hit@{TOP}", "low ", "high ")


@dataclass(frozen=True, slots=True)
class Searched:
    """What was searched for in the place of a question, and the paragraphs that were found, best first."""

    text: str
    found: tuple[str, ...]
    seconds: float = 0.0
    fallback: str | None = None


class Conditions:
    """Searches for each conversation's last question in each of the ways."""

    def __init__(self, pipeline: RagPipeline, store: VectorStore, settings: Settings) -> None:
        self._pipeline = pipeline
        self._store = store
        self._options = default_options(settings)

    async def searched(self, follow_up: FollowUp, *, with_engine: bool) -> dict[str, Searched]:
        """Return what came of each way; that of the engine only `with_engine`."""
        texts = {
            LAST: follow_up.question,
            CONVERSATION: f"{follow_up.first}\n{follow_up.first_answer}\n{follow_up.question}",
            STANDALONE: follow_up.standalone,
        }
        searched = {name: Searched(text, await self._found(text)) for name, text in texts.items()}
        if with_engine:
            history: list[Json] = [
                {"role": "user", "content": follow_up.first},
                {"role": "assistant", "content": follow_up.first_answer},
            ]
            started = time.perf_counter()
            rewritten = await self._pipeline.rewrite_query(follow_up.question, history)
            seconds = time.perf_counter() - started
            searched[REWRITTEN] = Searched(rewritten.text, await self._found(rewritten.text), seconds, rewritten.fallback)
        return searched

    async def _found(self, text: str) -> tuple[str, ...]:
        query = Query(text, (self._store,))
        ranking = await self._pipeline.find_passages(query, self._options, StageTimer(), limit=NUM_RESULTS)
        return tuple(dict.fromkeys(passage.document_id for passage in ranking.passages))


def quality_table(found: Mapping[str, Mapping[str, Searched]], relevant: Mapping[str, str]) -> Table:
    """Return a row for each way to search, of the rankings by way and conversation, and the paragraph that each is about."""
    measured = {name: _measured(of_name, relevant) for name, of_name in found.items()}
    baseline = measured[BASELINE].per_query[NDCG_10]
    rows: list[tuple[Cell, ...]] = []
    for name, of_name in found.items():
        ndcg, values = measured[name].interval(NDCG_10), measured[name].per_query[NDCG_10]
        hits = wilson_interval(sum(relevant[id_] in one.found[:TOP] for id_, one in of_name.items()), len(of_name))
        p_value = None if name == BASELINE else paired_p_value(values, baseline)
        quality = (ndcg.mean, ndcg.low, ndcg.high, p_value, measured[name].mean(MRR_10))
        rows.append((name, *quality, hits.mean, hits.low, hits.high))
    return Table(f"Follow-up questions, {len(relevant)} conversations", COLUMNS, tuple(rows))


def _measured(of_name: Mapping[str, Searched], relevant: Mapping[str, str]) -> Measured:
    check_same_queries(relevant.keys(), of_name.keys())
    qrels = {id_: {paragraph: 1} for id_, paragraph in relevant.items()}
    return measure(qrels, {id_: scores_by_rank(one.found) for id_, one in of_name.items()})


def cost_table(rewritten: Sequence[Searched]) -> Table:
    """Return how long rewriting took, and how often the question was searched for instead, by reason."""
    reasons = [one.fallback for one in rewritten if one.fallback is not None]
    seconds = sum(one.seconds for one in rewritten) / len(rewritten)
    counts = [(f"fallback: {reason}", reasons.count(reason)) for reason in dict.fromkeys(reasons)]
    return Table("Rewriting", ("what", "value"), (("seconds", seconds), ("fallbacks", len(reasons)), *counts))


def write_corpus(folder: Path, dataset: QaDataset) -> dict[str, str]:
    """Write the paragraphs as a file of rows; return each one's id by its text."""
    ids = {context.text: f"p{number}" for number, context in enumerate(dataset.pool)}
    rows = [{"_id": ids[context.text], "title": context.title, "text": context.text} for context in dataset.pool]
    (folder / "paragraphs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return ids


async def search_all(
    arguments: argparse.Namespace,
) -> tuple[str | None, dict[str, dict[str, Searched]], dict[str, str], list[FollowUp]]:
    """Return the model's name, the rankings by way and conversation, the paragraph of each, and the conversations."""
    settings = load_settings()
    dataset = load_questions("xquad-en")
    made = follow_ups(dataset)
    asked = random.Random(arguments.seed).sample(made, min(arguments.questions, len(made)))
    found: dict[str, dict[str, Searched]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        ids = write_corpus(Path(temporary), dataset)
        async with engine_of(settings, needed=not arguments.without_engine) as engine:
            with temporary_collections(settings, engine, {COLLECTION: Path(temporary)}) as (pipeline, stores):
                conditions = Conditions(pipeline, stores[COLLECTION], settings)
                for follow_up in asked:
                    searched = await conditions.searched(follow_up, with_engine=not arguments.without_engine)
                    for name, one in searched.items():
                        found.setdefault(name, {})[follow_up.id] = one
            model = None if arguments.without_engine else await engine.default_model()
    return model, found, {one.id: ids[one.paragraph] for one in asked}, asked


def run(arguments: argparse.Namespace, command: str) -> None:
    """Search, print the tables, and write them with every query."""
    model, found, relevant, asked = asyncio.run(search_all(arguments))
    tables = [quality_table(found, relevant)]
    if REWRITTEN in found:
        tables.append(cost_table(list(found[REWRITTEN].values())))
    print(*map(as_text, tables), sep="\n\n")
    out = arguments.out / "rewriting"
    path = write_report(
        out,
        title=f"Rewriting of follow-up questions: {model}",
        command=command,
        settings={"model": model, **vars(arguments)},
        tables=tables,
        plots=[],
        notes=[f"p: paired randomisation test of {NDCG_10} against the {BASELINE}."],
    )
    rows = [
        {**asdict(one), "relevant": relevant[one.id], **{name: asdict(found[name][one.id]) for name in found}} for one in asked
    ]
    (out / "conversations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    print(f"written: {path}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=at_least_one, default=30, help="how many conversations (default: 30)")
    parser.add_argument("--without-engine", action="store_true", help="leave out what the engine rewrites")
    parser.add_argument("--seed", type=int, default=0, help="for the choice of conversations (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("reports"), help="folder for the report (default: reports)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return run_command("run_rewriting", _parser(), run, arguments)


if __name__ == "__main__":
    sys.exit(main())
