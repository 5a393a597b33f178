"""The made-up facts that `make train-small` trains on; the training itself is what that command shows."""

from pathlib import Path

from eval.tuning.small import PLACES, make_data
from indexers.training.data import read_examples
from rag_server.training.rows import read_rows
from rerankers.training.labels import read_labels


def test_each_trainer_takes_its_data(tmp_path: Path) -> None:
    """A row, a pair and a label for each place; what is right says the answer, and the label puts it first."""
    make_data(tmp_path)
    rows, pairs, labels = (
        read_rows(tmp_path / "rows.jsonl"),
        read_examples(tmp_path / "pairs.jsonl"),
        read_labels(tmp_path / "labels.jsonl"),
    )

    assert len(rows) == len(pairs) == len(labels) == len(PLACES)
    for row, pair, label in zip(rows, pairs, labels, strict=True):
        assert row.answers[0] in row.passages[0].text
        assert pair.positives == (row.passages[0].text,)
        assert row.passages[0].text not in pair.negatives
        assert label.passages[label.permutation[0]].text == row.passages[0].text
