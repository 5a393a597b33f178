"""Writes the rows that the answerer is trained on, and those that are kept for measuring, from the sets that may ship.

python -m eval.tuning.answer_rows --out FOLDER
python -m rag_server.training.train --rows FOLDER/rows.jsonl --held-out FOLDER/held-out.jsonl ...
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from eval.qa.datasets import QaQuestion, load_questions
from eval.tuning.splits import held_out, trained_on
from rag_server.errors import RagServerError
from rag_server.training.rows import Row, RowPassage

HELD_OUT_SHARE = 0.3
# Short answers that stand in their passages.
ANSWERABLE = ("xquad-en", "litm-oracle", "hotpotqa", "2wikimultihopqa")
# CLAP NQ's answers are sentences, which would be learned as well: of it, only the questions that are to be refused.
UNANSWERABLE = ("clapnq-unanswerable",)
# Longer ones are no short answers.
MAX_ANSWER_WORDS = 12


def row_of(dataset: str, question: QaQuestion) -> Row | None:
    """Return the row of a question, None if no gold passage holds an answer to the letter."""
    passages = tuple(RowPassage(title=context.title, text=context.text, gold=context.is_gold) for context in question.contexts)
    gold = "\n".join(passage.text for passage in passages if passage.gold)
    answers = tuple(answer for answer in question.answers if answer in gold and len(answer.split()) <= MAX_ANSWER_WORDS)
    if question.answerable and not answers:
        return None
    rest = tuple(answer for answer in question.answers if answer not in answers and answer.strip())
    return Row(id=f"{dataset}/{question.id}", question=question.question, answers=(*answers, *rest), passages=passages)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows as JSON Lines."""
    path.write_text("".join(f"{row.model_dump_json(exclude_defaults=True)}\n" for row in rows), encoding="utf-8")


def make_rows(share: float) -> tuple[list[Row], list[Row]]:
    """Return the rows to be trained on, and those to be measured with.

    Raises:
        ConfigError: The data sets are not where RAG_EVAL_DATA says.
    """
    trained, kept = [], []
    for name in (*ANSWERABLE, *UNANSWERABLE):
        questions = load_questions(name).questions
        trained += [row for question in trained_on(questions, share) if (row := row_of(name, question)) is not None]
        kept += [row for question in held_out(questions, share) if (row := row_of(name, question)) is not None]
    return trained, kept


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder")
    parser.add_argument("--held-out-share", type=float, default=HELD_OUT_SHARE, help="of the gold passages, kept for measuring")
    given = parser.parse_args()
    try:
        trained, kept = make_rows(given.held_out_share)
    except RagServerError as error:
        sys.exit(f"{error.code}: {error}")
    given.out.mkdir(parents=True, exist_ok=True)
    write_rows(given.out / "rows.jsonl", trained)
    write_rows(given.out / "held-out.jsonl", kept)
    print(f"{given.out}: {len(trained):,} rows to train on, {len(kept):,} kept for measuring")


if __name__ == "__main__":
    main()
