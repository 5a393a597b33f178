"""Training labels of rankers: queries, their candidates in the first stage's order, and the complete order to be learned."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rag_server.errors import RerankError, TrainingDataError
from rag_server.learning.json_lines import Text, faults_of, read_json_lines
from rag_server.protocols import Reranker
from rag_server.types import Passage, Ranking, RankingReport

# RankGPT's window, and how many of the best a pass of it orders right (Liu et al., arXiv 2412.14574).
WINDOW = 20
KEPT = 10


class Candidate(BaseModel):
    """A passage that the first stage found; `score` is the first stage's, higher is better."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Text
    title: str = ""
    text: Text
    score: Annotated[float, Field(allow_inf_nan=False)] = 0.0


class RankingLabel(BaseModel):
    """A line of a label file.

    `passages` stand in the first stage's order, `permutation` names their positions from 0, best first. `grades`, one per
    passage and higher is better, are there where people judged them: the permutation alone does not tell which are equal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    query_id: Text
    query: Text
    passages: Annotated[tuple[Candidate, ...], Field(min_length=2)]
    permutation: tuple[int, ...]
    grades: tuple[Annotated[int, Field(ge=0)], ...] | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> "RankingLabel":
        if sorted(self.permutation) != list(range(len(self.passages))):
            raise ValueError(f"permutation must name each of the {len(self.passages)} passages once, from 0")
        if self.grades is not None and len(self.grades) != len(self.passages):
            raise ValueError(f"grades must be one per passage: {len(self.passages)}, not {len(self.grades)}")
        if len({passage.id for passage in self.passages}) != len(self.passages):
            raise ValueError("passages: an id is there twice")
        return self


def as_passages(candidates: Sequence[Candidate]) -> tuple[Passage, ...]:
    """Return the candidates as a reranker takes them; the `id` of each is its position."""
    return tuple(
        Passage(index, one.id, "", "passage", one.title, one.text, 0, len(one.text), one.score, rank=index + 1)
        for index, one in enumerate(candidates)
    )


def judged_label(query_id: str, query: str, candidates: Sequence[Candidate], grades: Mapping[str, int]) -> RankingLabel:
    """Return the order by falling grade; candidates of one grade keep the first stage's order, unjudged ones have grade 0.

    Raises:
        TrainingDataError: No candidate is relevant, so that there is nothing to learn, or the label is malformed.
    """
    of_candidates = tuple(max(0, grades.get(candidate.id, 0)) for candidate in candidates)
    if not any(of_candidates):
        raise TrainingDataError(f"the query {query_id!r} has no relevant passage among its {len(candidates)} candidates")
    permutation = sorted(range(len(candidates)), key=lambda index: -of_candidates[index])
    return _label(query_id, query, candidates, permutation, of_candidates)


async def teacher_label(
    teacher: Reranker,
    query_id: str,
    query: str,
    candidates: Sequence[Candidate],
    *,
    window: int | None = WINDOW,
    kept: int = KEPT,
) -> tuple[RankingLabel, RankingReport]:
    """Return the teacher's complete order, and what it took.

    One pass of a sliding window orders only the best right. So of each pass the first `kept` are taken, and the rest is handed
    in again, until what is left fits one window, whose order is taken whole: nine passes for 100 candidates.

    Args:
        teacher: Such as a SlidingWindowReranker of one pass.
        query_id: What the label is known by.
        query: What is asked.
        candidates: In the first stage's order.
        window: How many the teacher reads together; None for one that orders all in one call (a cross-encoder, full ranking).
        kept: How many of the best are final after a pass.

    Raises:
        TrainingDataError: The teacher lost or repeated a passage.
        RerankError: It fell back to the first stage's order, which is no label.
    """
    at_once = len(candidates) if window is None else window
    rest = as_passages(candidates)
    order: list[int] = []
    report = RankingReport()
    while rest:
        ranking = await _one_pass(teacher, query_id, query, rest)
        final = len(rest) if len(rest) <= at_once else kept
        order += [passage.id for passage in ranking.passages[:final]]
        rest = ranking.passages[final:]
        report += ranking.report
    return _label(query_id, query, candidates, order), report


async def _one_pass(teacher: Reranker, query_id: str, query: str, passages: Sequence[Passage]) -> Ranking:
    ranking = await teacher.rerank(query, passages)
    if ranking.report.fallback is not None:
        raise RerankError(f"the teacher ordered nothing for the query {query_id!r}: {ranking.report.fallback}")
    if sorted(passage.id for passage in ranking.passages) != sorted(passage.id for passage in passages):
        raise TrainingDataError(f"the teacher lost or repeated passages of the query {query_id!r}")
    return ranking


def read_labels(path: Path) -> list[RankingLabel]:
    """Return the labels of a file.

    Raises:
        TrainingDataError: The file cannot be read, is empty, holds a line that does not fit, or a query id twice.
    """
    return read_json_lines(path, RankingLabel, id_of=lambda label: label.query_id)


def write_labels(path: Path, labels: Iterable[RankingLabel]) -> int:
    """Write the labels as they come, one a line, and return their number."""
    number = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for number, label in enumerate(labels, start=1):  # noqa: B007 - the number of the last one is returned
            file.write(f"{label.model_dump_json(exclude_none=True)}\n")
    return number


def _label(
    query_id: str,
    query: str,
    candidates: Sequence[Candidate],
    permutation: Sequence[int],
    grades: tuple[int, ...] | None = None,
) -> RankingLabel:
    try:
        return RankingLabel(
            query_id=query_id, query=query, passages=tuple(candidates), permutation=tuple(permutation), grades=grades
        )
    except ValidationError as error:
        raise TrainingDataError(f"the query {query_id!r}: {faults_of(error)}") from None
