"""The reranker that trusts the retriever."""

from collections.abc import Sequence

from rag_server.types import Passage, Ranking


class FirstStageOrder:
    """Keeps the candidates in the order in which they were found (`RAG_RERANK__KIND=none`)."""

    async def rerank(self, query: str, passages: Sequence[Passage]) -> Ranking:
        """Return the passages as they came."""
        del query
        return Ranking(tuple(passages))
