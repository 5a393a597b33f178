"""Full ranking: one prompt holds all candidates, one answer orders them."""

from collections.abc import Sequence

from rag_server.types import Passage, Ranking
from rerankers.listwise_model import ListwiseModel
from rerankers.permutation import in_order


class FullRankingReranker:
    """Liu et al., "Sliding Windows Are Not the End" (arXiv 2412.14574): one call where a sliding window makes nine."""

    def __init__(self, model: ListwiseModel) -> None:
        self._model = model

    async def rerank(self, query: str, passages: Sequence[Passage]) -> Ranking:
        """Return the passages as the model orders them, those that it does not name after them."""
        order = await self._model.rank(query, passages)
        return Ranking(in_order(passages, order.positions), order.report)
