"""Writes a question-answering set as files for the command line: passages to index, and questions to ask as a batch."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from eval.qa.datasets import QaDataset, QaQuestion
from rag_server.protocols import Json

PASSAGES = "passages.jsonl"
QUESTIONS = "questions.jsonl"


def export(folder: Path, dataset: QaDataset, questions: Sequence[QaQuestion], *, max_tokens: int) -> None:
    """Write every passage of the set once, and these questions with the longest answer that they may get, in tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    write_passages(folder / PASSAGES, dataset)
    asked = ({"id": question.id, "question": question.question, "max_tokens": max_tokens} for question in questions)
    _write(folder / QUESTIONS, asked)


def write_passages(path: Path, dataset: QaDataset) -> dict[str, str]:
    """Write every passage of the set once, to be indexed, and return the document id of each text."""
    contexts = {context.text: context for question in dataset.questions for context in question.contexts}
    contexts |= {context.text: context for context in dataset.pool}
    ids = {text: str(number) for number, text in enumerate(contexts)}
    _write(path, ({"_id": ids[text], "title": context.title, "text": text} for text, context in contexts.items()))
    return ids


def _write(path: Path, rows: Iterable[Json]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
