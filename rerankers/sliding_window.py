"""The sliding window: a listwise model orders a few candidates at a time, from the last to the first."""

from collections.abc import Iterator, Sequence

from rag_server.types import Passage, Ranking, RankingReport
from rerankers.listwise_model import ListwiseModel
from rerankers.permutation import in_order


class SlidingWindowReranker:
    """RankGPT's window (Sun et al., arXiv 2304.09542): what is best moves up by `window - step` places or more per call."""

    def __init__(self, model: ListwiseModel, *, window: int = 20, step: int = 10, passes: int = 1) -> None:
        """Take the sizes in passages; further passes begin with the order of the one before."""
        self._model = model
        self._window = window
        self._step = step
        self._passes = passes

    async def rerank(self, query: str, passages: Sequence[Passage]) -> Ranking:
        """Return the passages as the windows leave them."""
        ordered = list(passages)
        report = RankingReport()
        for _ in range(self._passes):
            for start, end in windows(len(ordered), self._window, self._step):
                order = await self._model.rank(query, ordered[start:end])
                ordered[start:end] = [ordered[start + position] for position in order.positions]
                report += order.report
        return Ranking(in_order(ordered, range(len(ordered))), report)


def windows(num_passages: int, window: int, step: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of each window, from the last passages to the first, which the last window always holds."""
    start = max(num_passages - window, 0)
    yield start, num_passages
    while start > 0:
        start = max(start - step, 0)
        yield start, min(start + window, num_passages)
