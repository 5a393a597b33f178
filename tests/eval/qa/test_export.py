"""Questions and passages as files for the command line."""

import json
from pathlib import Path

from eval.qa.datasets import QaContext, QaDataset, QaQuestion
from eval.qa.export import PASSAGES, QUESTIONS, export


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_passage_is_written_once_and_each_question_with_its_limit(tmp_path: Path) -> None:
    """Passages that several questions share, or that are distractors too, are one document; questions keep their ids."""
    cats, dogs = QaContext("Cats", "Cats sleep.", is_gold=True), QaContext("Dogs", "Dogs bark.", is_gold=False)
    questions = (
        QaQuestion("q1", "Do cats sleep?", ("yes",), (cats, dogs), answerable=True),
        QaQuestion("q2", "Wie schläft\ndie Katze?", ("gut",), (cats,), answerable=True),
    )
    dataset = QaDataset("made-up", questions, pool=(dogs, QaContext("", "Whales sing.", is_gold=False)))

    export(tmp_path / "new", dataset, questions[1:], max_tokens=7)

    assert rows(tmp_path / "new" / PASSAGES) == [
        {"_id": "0", "title": "Cats", "text": "Cats sleep."},
        {"_id": "1", "title": "Dogs", "text": "Dogs bark."},
        {"_id": "2", "title": "", "text": "Whales sing."},
    ]
    assert rows(tmp_path / "new" / QUESTIONS) == [{"id": "q2", "question": "Wie schläft\ndie Katze?", "max_tokens": 7}]
