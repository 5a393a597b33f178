"""Measures how often the semantic answer cache would give a question the answer to another one, by threshold.

python -m eval.run_semantic_cache

Every question of xquad-en is compared with all others, as if they had been asked before. The nearest one is a wrong hit if no
answer to it is one to the question. What there is to gain is shown by questions with a word of courtesy before them.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eval.command import run_command
from eval.qa.datasets import QaQuestion, load_questions
from eval.qa.measures import normalise
from eval.report import Plot, Series, Table, as_text, write_report
from eval.significance import wilson_interval
from rag_server.config import load_settings
from rag_server.factory import load_embedder
from rag_server.types import Vectors

THRESHOLDS = (0.85, 0.9, 0.95, 0.97, 0.98, 0.99)
COURTESY = "Please tell me: "
COLUMNS = ("threshold", "wrong hits", "low", "high", "right hits", "with courtesy")


def hits_table(questions: Sequence[QaQuestion], vectors: Vectors, courteous: Vectors) -> Table:
    """Return for each threshold the shares of questions with a wrong and a right hit, and of courteous ones that hit theirs.

    Args:
        questions: Each text once.
        vectors: A unit vector of each question.
        courteous: A unit vector of each question with a word of courtesy before it.
    """
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1.0)
    nearest, best = cosines.argmax(axis=1), cosines.max(axis=1)
    right = np.array([_share_an_answer(question, questions[place]) for question, place in zip(questions, nearest, strict=True)])
    own = (vectors * courteous).sum(axis=1)
    rows = []
    for threshold in THRESHOLDS:
        wrong = wilson_interval(int((~right & (best >= threshold)).sum()), len(questions))
        gained = (float((right & (best >= threshold)).mean()), float((own >= threshold).mean()))
        rows.append((threshold, wrong.mean, wrong.low, wrong.high, *gained))
    return Table(f"Semantic hits, {len(questions)} questions", COLUMNS, tuple(rows))


def _share_an_answer(one: QaQuestion, other: QaQuestion) -> bool:
    return bool({normalise(answer) for answer in one.answers} & {normalise(answer) for answer in other.answers})


def run(given: argparse.Namespace, command: str) -> None:
    """Embed the questions, print the table and write it."""
    settings = load_settings()
    embedder = load_embedder(settings)
    questions = list({question.question: question for question in load_questions("xquad-en").questions}.values())
    texts = [question.question for question in questions]
    table = hits_table(
        questions, embedder.embed_queries(texts), embedder.embed_queries([f"{COURTESY}{text}" for text in texts])
    )
    print(as_text(table))
    shares = tuple(float(str(row[1])) for row in table.rows)
    bounds = [tuple(float(str(row[column])) for row in table.rows) for column in (2, 3)]
    plot = Plot("wrong-hits.png", "Wrong hits", "threshold", "share", (Series("wrong", THRESHOLDS, shares, *bounds),))
    path = write_report(
        given.out / "semantic-cache",
        title=f"Semantic hits: {embedder.model_id}",
        command=command,
        settings={"embedder": embedder.model_id},
        tables=[table],
        plots=[plot],
    )
    print(f"written: {path}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("reports"), help="folder for the report (default: reports)")
    return run_command("run_semantic_cache", parser, run, arguments)


if __name__ == "__main__":
    sys.exit(main())
