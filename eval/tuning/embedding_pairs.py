"""Writes the pairs that the embedder is trained on, and the queries that are kept for measuring, from the sets that may ship.

python -m eval.tuning.embedding_pairs --out FOLDER
python -m indexers.training.train --data FOLDER/pairs.jsonl --evaluation FOLDER/held-out.jsonl ...
RAG_EVAL_DATA=FOLDER python -m eval.run_gate embedder --dataset held-out ...
"""

import argparse
import gzip
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from eval.qa.datasets import QaContext, QaQuestion, load_questions
from eval.ranking.datasets import CORPUS, QRELS, QUERIES
from eval.tuning.splits import held_out, trained_on
from indexers.training.data import Example
from rag_server.errors import RagServerError
from rag_server.jobs.passage_text import passage_text
from rag_server.learning.splits import content_hash

HELD_OUT_SHARE = 0.3
DATASETS = ("xquad-en", "litm-oracle", "hotpotqa", "2wikimultihopqa")


def embedding_pairs(names: Sequence[str], share: float) -> list[Example]:
    """Return each question with its gold passages, and with its distractors as negatives, none of them held out.

    A question that is asked twice, with other passages, is one example. One without a gold passage is left out.

    Raises:
        ConfigError: The data sets are not where RAG_EVAL_DATA says.
    """
    found: dict[str, Example] = {}
    for name in names:
        questions = load_questions(name).questions
        measured = {content_hash(question.question) for question in held_out(questions, share)}
        for question in trained_on(questions, share):
            key = content_hash(question.question)
            if key not in measured and any(context.is_gold for context in question.contexts):
                found[key] = _merged(found.get(key), question)
    return list(found.values())


def held_out_queries(names: Sequence[str], share: float) -> list[str]:
    """Return the questions that are kept for measuring; raises as `embedding_pairs` does."""
    return [question.question for name in names for question in held_out(load_questions(name).questions, share)]


def write_collection(folder: Path, names: Sequence[str], share: float) -> int:
    """Write the questions that are kept for measuring as judged queries on all their passages, in BEIR's layout.

    Returns:
        The number of passages.

    Raises:
        ConfigError: The data sets are not where RAG_EVAL_DATA says.
    """
    kept = [question for name in names for question in held_out(load_questions(name).questions, share)]
    judged = [question for question in kept if any(context.is_gold for context in question.contexts)]
    passages = {content_hash(context.text): context for question in judged for context in question.contexts}
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(folder / CORPUS, "wt", encoding="utf-8") as file:
        file.writelines(_row(_id=id_, title=one.title, text=one.text) for id_, one in passages.items())
    queries = (_row(_id=question.id, text=question.question) for question in judged)
    (folder / QUERIES[0]).write_text("".join(queries), encoding="utf-8")
    judgments = [
        f"{question.id}\t{content_hash(context.text)}\t1\n"
        for question in judged
        for context in question.contexts
        if context.is_gold
    ]
    (folder / QRELS).write_text("query-id\tcorpus-id\tscore\n" + "".join(judgments), encoding="utf-8")
    return len(passages)


def _row(**values: str) -> str:
    return f"{json.dumps(values, ensure_ascii=False)}\n"


def _merged(before: Example | None, question: QaQuestion) -> Example:
    right = _texts(context for context in question.contexts if context.is_gold)
    wrong = _texts(context for context in question.contexts if not context.is_gold)
    if before is not None:
        right, wrong = (*before.positives, *right), (*before.negatives, *wrong)
    positives = {content_hash(text): text for text in right}
    negatives = {content_hash(text): text for text in wrong if content_hash(text) not in positives}
    return Example(query=question.question, positives=tuple(positives.values()), negatives=tuple(negatives.values()))


def _texts(contexts: Iterable[QaContext]) -> tuple[str, ...]:
    return tuple(passage_text(context.title, context.text, {}) for context in contexts)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder")
    parser.add_argument("--held-out-share", type=float, default=HELD_OUT_SHARE, help="of the gold passages, kept for measuring")
    given = parser.parse_args()
    try:
        pairs = embedding_pairs(DATASETS, given.held_out_share)
        queries = held_out_queries(DATASETS, given.held_out_share)
    except RagServerError as error:
        sys.exit(f"{error.code}: {error}")
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "pairs.jsonl").write_text("".join(f"{pair.model_dump_json()}\n" for pair in pairs), encoding="utf-8")
    (given.out / "held-out.jsonl").write_text("".join(_row(query=query) for query in queries), encoding="utf-8")
    num_passages = write_collection(given.out / "held-out", DATASETS, given.held_out_share)
    kept = f"{len(queries):,} queries and {num_passages:,} passages"
    print(f"{given.out}: {len(pairs):,} pairs to train on, {kept} kept for measuring")


if __name__ == "__main__":
    main()
