"""Writes a question-answering set as files for the command line: passages to index, and questions to ask as a batch."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from eval.qa.datasets import QaContext, QaDataset, QaQuestion
from rag_server.protocols import Json

PASSAGES = "passages.jsonl"
QUESTIONS = "questions.jsonl"


def export(folder: Path, dataset: QaDataset, questions: Sequence[QaQuestion], *, max_tokens: int) -> None:
    """Write every passage of the set once, and these questions with the longest answer that they may get, in tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    contexts = {context.text: context for question in dataset.questions for context in question.contexts}
    contexts |= {context.text: context for context in dataset.pool}
    _write(folder / PASSAGES, (_passage(number, context) for number, context in enumerate(contexts.values())))
    asked = ({"id": question.id, "question": question.question, "max_tokens": max_tokens} for question in questions)
    _write(folder / QUESTIONS, asked)


def _passage(number: int, context: QaContext) -> Json:
    return {"_id": str(number), "title": context.title, "text": context.text}


def _write(path: Path, rows: Iterable[Json]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
