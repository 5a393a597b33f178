"""A teacher's labels outlive the process that asks for them."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from eval.tuning.kept_labels import KeptLabels
from eval.tuning.ranking_labels import main, teacher_labels
from rag_server.errors import EngineUnavailableError
from rag_server.types import Passage, Ranking, RankingReport
from rerankers.training.labels import Candidate, RankingLabel, read_labels
from tests.eval.tuning.conftest import TOPICS

QUERIES = {f"q{number}": f"question {number}" for number in range(4)}
CANDIDATES = {
    query_id: [Candidate(id=f"{query_id}{place}", text=f"text {place}") for place in range(3)] for query_id in QUERIES
}


class Backwards:
    """Turns every list round, and breaks off at its `last` call."""

    def __init__(self, last: int | None = None) -> None:
        self._last = last
        self.asked: list[str] = []

    async def rerank(self, query: str, passages: Sequence[Passage]) -> Ranking:
        self.asked.append(query)
        if len(self.asked) == self._last:
            raise EngineUnavailableError("it died")
        return Ranking(tuple(reversed(passages)), RankingReport(calls=1))


def labels_of(teacher: Backwards, kept: KeptLabels) -> tuple[list[RankingLabel], RankingReport]:
    return asyncio.run(teacher_labels(teacher, QUERIES, CANDIDATES, kept, window=None))


def test_what_a_teacher_said_is_not_asked_for_again(tmp_path: Path) -> None:
    """After it died at the third question two are left, of which alone the second run tells; all are as in one run."""
    path = tmp_path / "new" / "labels.part"
    with pytest.raises(EngineUnavailableError):
        labels_of(Backwards(last=3), KeptLabels(path))
    second = Backwards()
    labels, report = labels_of(second, KeptLabels(path))

    assert second.asked == ["question 2", "question 3"]
    assert report.calls == 2
    assert labels == labels_of(Backwards(), KeptLabels(tmp_path / "other"))[0]
    assert [one.permutation for one in labels] == [(2, 1, 0)] * 4
    assert read_labels(path) == labels


def test_a_line_that_was_cut_off_is_written_again(tmp_path: Path) -> None:
    """A process was killed in the middle of the second of its lines."""
    path = tmp_path / "labels.part"
    labels, _ = labels_of(Backwards(), KeptLabels(path))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:-20])
    second = Backwards()

    assert labels_of(second, KeptLabels(path))[0] == labels
    assert second.asked == ["question 1", "question 2", "question 3"]
    assert path.read_bytes() == b"".join(lines)


def test_a_line_without_its_end_is_not_joined_with_the_next(tmp_path: Path) -> None:
    """Only the line break was lost."""
    path = tmp_path / "labels.part"
    labels, _ = labels_of(Backwards(), KeptLabels(path))
    whole = path.read_bytes()
    path.write_bytes(whole.splitlines()[0])

    assert labels_of(Backwards(), KeptLabels(path))[0] == labels
    assert path.read_bytes() == whole


def test_other_candidates_are_asked_about_anew(tmp_path: Path) -> None:
    """Nothing is told of the label of other passages or of another question."""
    kept = KeptLabels(tmp_path / "labels.part")
    labels_of(Backwards(), kept)
    kept = KeptLabels(tmp_path / "labels.part")

    assert kept.find("q0", "question 0", CANDIDATES["q0"]) is not None
    assert kept.find("q0", "question 1", CANDIDATES["q0"]) is None
    assert kept.find("q0", "question 0", CANDIDATES["q0"][:2]) is None
    assert kept.find("q9", "question 0", CANDIDATES["q0"]) is None


@pytest.mark.usefixtures("data", "embedder")
def test_what_cannot_be_written_in_the_end_is_kept(tmp_path: Path) -> None:
    """The labels are where the next run finds them: the file that was asked for is a folder."""
    out = tmp_path / "labels.jsonl"
    out.mkdir()
    command = ["--dataset", "hotpotqa", "--first-stage", "lexical", "--held-out-share", "0", "--teacher", "embedding"]

    with pytest.raises(IsADirectoryError):
        main([*command, "--out", str(out)])
    (kept,) = tmp_path.glob("labels.jsonl.*.part")
    assert len(read_labels(kept)) == len(TOPICS)


@pytest.mark.usefixtures("data", "embedder")
def test_the_command_leaves_the_labels_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the end there is the file that was asked for, and none beside it."""
    out = tmp_path / "labels.jsonl"
    command = ["--dataset", "hotpotqa", "--first-stage", "lexical", "--held-out-share", "0", "--teacher", "embedding"]

    assert main([*command, "--out", str(out)]) == 0
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["labels.jsonl"]
    assert len(read_labels(out)) == len(TOPICS)
    assert f"{len(TOPICS):,} labels" in capsys.readouterr().out
