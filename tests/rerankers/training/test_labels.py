"""Labels by passes of a teacher and by judgments, and label files that are not as they should be."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rag_server.errors import RerankError, TrainingDataError
from rag_server.types import Passage, Ranking, RankingReport
from rerankers.listwise_model import Order
from rerankers.sliding_window import SlidingWindowReranker
from rerankers.training.labels import judged_label, read_labels, teacher_label, write_labels
from tests.rerankers.training.conftest import candidates, label


@dataclass
class SortingModel:
    """In the place of a listwise model: orders what it reads by the number in the text, and counts."""

    calls: int = 0

    async def rank(self, _: str, passages: Sequence[Passage]) -> Order:
        self.calls += 1
        positions = sorted(range(len(passages)), key=lambda index: int(passages[index].text))
        return Order(tuple(positions), RankingReport(calls=1))


@dataclass
class BringsUpTen:
    """A teacher of one pass that turns its list: the last ten come first, in turned order, the others stay."""

    sizes: list[int] = field(default_factory=list)

    async def rerank(self, _: str, passages: Sequence[Passage]) -> Ranking:
        self.sizes.append(len(passages))
        return Ranking((*passages[:-11:-1], *passages[:-10]))


async def test_thirty_passages_by_hand() -> None:
    """Two passes: the first gives 29 to 20 and leaves 0 to 19; the second, of one window, gives 19 to 10, then 0 to 9."""
    teacher = BringsUpTen()

    made, _ = await teacher_label(teacher, "q1", "q", candidates([str(number) for number in range(30)]))

    assert teacher.sizes == [30, 20]
    assert made.permutation == (*range(29, 9, -1), *range(10))


async def test_hundred_passages_take_nine_passes() -> None:
    """As the paper has it: passes over 100, 90, ... 20, of 9 + 8 + ... + 1 windows; the order is complete and right."""
    model, numbers = SortingModel(), [(37 * index) % 100 for index in range(100)]
    sliding = SlidingWindowReranker(model, window=20, step=10)
    passes = []

    class Counting:
        async def rerank(self, query: str, passages: Sequence[Passage]) -> Ranking:
            passes.append(len(passages))
            return await sliding.rerank(query, passages)

    made, report = await teacher_label(Counting(), "q1", "q", candidates([str(number) for number in numbers]))

    assert passes == list(range(100, 10, -10))
    assert model.calls == report.calls == 45
    assert [numbers[index] for index in made.permutation] == list(range(100))


async def test_a_teacher_that_reads_all_at_once_is_asked_once() -> None:
    """A cross-encoder's order of a long list is final as it is."""
    teacher = BringsUpTen()

    made, _ = await teacher_label(teacher, "q1", "q", candidates([str(number) for number in range(30)]), window=None)

    assert teacher.sizes == [30]
    assert made.permutation == (*range(29, 19, -1), *range(20))


@dataclass
class Faulty:
    """A teacher at fault in one way."""

    fault: str

    async def rerank(self, _: str, passages: Sequence[Passage]) -> Ranking:
        if self.fault == "loses":
            return Ranking(tuple(passages[1:]))
        return Ranking(tuple(passages), RankingReport(fallback="too slow"))


@pytest.mark.parametrize(("fault", "error"), [("loses", TrainingDataError), ("falls back", RerankError)])
async def test_what_a_teacher_did_not_order_is_no_label(fault: str, error: type[Exception]) -> None:
    """A passage that is lost, or the first stage's order in the place of the teacher's, is an error that names the query."""
    with pytest.raises(error, match="'q1'"):
        await teacher_label(Faulty(fault), "q1", "q", candidates(["a", "b", "c"]))


def test_judgments_order_by_grade_and_ties_keep_their_order() -> None:
    """Grades 0 2 1 2 and none: both of grade 2 first, as they were found, then 1, then what is of no use, as found."""
    made = judged_label("q1", "q", candidates(list("abcde")), {"d0": 0, "d1": 2, "d2": 1, "d3": 2})

    assert made.permutation == (1, 3, 2, 0, 4)
    assert made.grades == (0, 2, 1, 2, 0)


def test_a_query_without_a_relevant_candidate_is_refused() -> None:
    """There would be nothing to learn but the first stage's order."""
    with pytest.raises(TrainingDataError, match="'q1' has no relevant passage among its 2"):
        judged_label("q1", "q", candidates(["a", "b"]), {"d7": 2})


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Titles, scores, grades and letters of all scripts come back."""
    labels = [judged_label("q1", "wer saß?", candidates(["ä", "貓"], "T"), {"d1": 1}), label(["x", "y", "z"], [2, 0, 1])]

    assert write_labels(tmp_path / "labels.jsonl", labels) == 2
    assert read_labels(tmp_path / "labels.jsonl") == labels


GOOD = {
    "query_id": "q1",
    "query": "q",
    "passages": [{"id": "a", "text": "one"}, {"id": "b", "text": "two"}],
    "permutation": [1, 0],
}
FAULTS = {
    "no query": ({"query": " "}, "line 2: query:"),
    "a single passage": ({"passages": [{"id": "a", "text": "one"}], "permutation": [0]}, "line 2: passages:"),
    "empty passage": ({"passages": [{"id": "a", "text": ""}, {"id": "b", "text": "two"}]}, "line 2: passages.0.text:"),
    "an id twice": ({"passages": [{"id": "a", "text": "1"}, {"id": "a", "text": "2"}]}, "an id is there twice"),
    "incomplete permutation": ({"permutation": [1]}, "must name each of the 2 passages once"),
    "repeated permutation": ({"permutation": [1, 1]}, "must name each of the 2 passages once"),
    "too few grades": ({"grades": [1]}, "grades must be one per passage"),
    "unknown field": ({"colour": "red"}, "line 2: colour:"),
    "query id twice": ({"query_id": "q0"}, "line 2: the id 'q0' is there twice"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_malformed_line_is_named_by_file_line_and_field(tmp_path: Path, fault: str) -> None:
    """The second line's fault is told; nothing is read around it."""
    changes, told = FAULTS[fault]
    path = tmp_path / "labels.jsonl"
    path.write_text(json.dumps(GOOD | {"query_id": "q0"}) + "\n" + json.dumps(GOOD | changes) + "\n")

    with pytest.raises(TrainingDataError) as raised:
        read_labels(path)
    assert str(path) in str(raised.value)
    assert told in str(raised.value)


@pytest.mark.parametrize(("content", "told"), [("", "holds no row"), ("{", "line 1"), (None, "cannot be read")])
def test_a_file_that_is_none_is_named(tmp_path: Path, content: str | None, told: str) -> None:
    """Empty, broken off, or not there."""
    path = tmp_path / "labels.jsonl"
    if content is not None:
        path.write_text(content)

    with pytest.raises(TrainingDataError, match=told):
        read_labels(path)
