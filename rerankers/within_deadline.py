"""Keeps a reranker that is slow, down or at fault from costing the answer."""

import asyncio
import time
from collections.abc import Sequence

import structlog

from rag_server.errors import RagServerError
from rag_server.protocols import Reranker
from rag_server.types import Passage, Ranking, RankingReport
from rerankers.permutation import in_order

log = structlog.get_logger()


class WithinDeadline:
    """Uses the first stage's order where the reranker fails or takes too long, and says so in the report."""

    def __init__(self, reranker: Reranker, *, deadline_s: float) -> None:
        self._reranker = reranker
        self._deadline_s = deadline_s

    async def rerank(self, query: str, passages: Sequence[Passage]) -> Ranking:
        """Return the reranker's order, or the passages as they came with the reason as `fallback`."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._reranker.rerank(query, passages)
        except TimeoutError:
            reason = f"the reranker did not answer within {self._deadline_s:g} s (RAG_RERANK__DEADLINE_S)"
        except RagServerError as error:
            reason = str(error)
        log.warning("reranking failed; the first stage's order is used", reason=reason)
        report = RankingReport(seconds=time.perf_counter() - started, fallback=reason)
        return Ranking(in_order(passages, range(len(passages))), report)
