"""Two models of an engine, asked through a whole server: what each question is answered from, and how they compare."""

import gzip
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from eval.qa.predictions import read_predictions
from eval.run_served_qa import main
from rag_server.model_evaluation import read_evaluation

RIGHT = "one hundred cats"
NUM_QUESTIONS = 4
# So many that the server cuts the passage.
SENTENCES = 70


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Questions about houses, each with its gold passage, which is longer than a chunk, and another."""
    path = tmp_path / "data" / "hotpotqa" / "hotpotqa_train_100.jsonl.gz"
    path.parent.mkdir(parents=True)
    rows = [
        {
            "id": f"q{house}",
            "question": f"How many cats are in house {house}?",
            "answers": [RIGHT],
            "contexts": [
                {"title": "", "is_gold": True, "text": f"In house {house} are {RIGHT}." + " They sleep all day." * SENTENCES},
                {"title": "", "is_gold": False, "text": f"House {house} has a red door."},
            ],
        }
        for house in range(NUM_QUESTIONS)
    ]
    path.write_bytes(gzip.compress("".join(f"{json.dumps(row)}\n" for row in rows).encode()))
    monkeypatch.setenv("RAG_EVAL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("RAG_DATA_DIR", str(tmp_path / "server"))
    return tmp_path / "out" / "served-hotpotqa"


def test_each_question_is_answered_from_its_own_passages(
    data: Path,
    scripted_engine: Callable[..., AbstractContextManager[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """All chunks of the gold passage are there, and the two others; the figures are those of the answers given."""
    asked = ["--dataset", "hotpotqa", "--passages", "3", "--baseline", "scripted", "--model", "new", "--out", str(data.parent)]
    with scripted_engine(answer="no idea", adapters={"new": f"{RIGHT} [1]"}) as engine:
        monkeypatch.setenv("RAG_ENGINE__BASE_URL", engine)
        statuses = [main(asked), main(asked)]
    found = {one.measure: one for one in read_evaluation(data / "comparison.json").comparisons}

    assert statuses == [0, 0]
    assert (found["exact match"].baseline, found["exact match"].new, found["exact match"].n) == (0.0, 1.0, NUM_QUESTIONS)
    assert found["mark share"].new == 1.0
    right_marks = 0
    for one in read_predictions(data / "new.jsonl"):
        assert one.rag is not None
        texts = [passage.text for passage in one.rag.passages]
        gold = [text for text in texts if "cats" in text or "sleep" in text]
        assert sum(text.count("They sleep all day.") for text in gold) == SENTENCES
        assert f"In house {one.id[-1]} are" in " ".join(gold)
        assert len(texts) - len(gold) == 2
        right_marks += texts[0] in gold
    assert found["mark precision"].new == pytest.approx(right_marks / NUM_QUESTIONS)
    assert "token F1 decides" in capsys.readouterr().out


def test_a_model_that_is_not_served_is_named(
    data: Path,
    scripted_engine: Callable[..., AbstractContextManager[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing is compared."""
    asked = ["--dataset", "hotpotqa", "--passages", "2", "--baseline", "other", "--model", "scripted", "--out", str(data)]
    with scripted_engine(answer="no idea") as engine:
        monkeypatch.setenv("RAG_ENGINE__BASE_URL", engine)
        assert main(asked) == 1

    assert "other failed at 4 questions, so nothing is compared" in capsys.readouterr().err
    assert not (data / "comparison.json").exists()
