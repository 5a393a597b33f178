"""One-pass listwise reranking: a model reads all candidates in one context and scores them without decoding a token."""

import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from rag_server.errors import EngineRequestError
from rag_server.protocols import ListwiseScorer
from rag_server.types import Passage, Ranking, RankingReport
from rag_server.untrusted_text import without_special_tokens
from rerankers.passage_text import ranking_texts
from rerankers.permutation import in_order

# jina-reranker-v3 is trained on so many passages in one context.
BLOCK_SIZE = 64
NUM_ANCHORS = 8
# Texts that are refused although they are as short as this are not refused for their length.
MIN_CHARACTERS = 100
TOO_LONG = 400


class ListwiseScorerReranker:
    """Scores up to 64 candidates in one call, more in blocks that overlap.

    For models like jina-reranker-v3 (arXiv 2509.25085), where candidates attend to each other. A score so depends on what it
    was read with, and scores of two calls cannot be compared. The eight best of the first block, the anchors, are therefore
    read again at the head of every later block, whose scores are shifted by the mean of what the anchors' scores in the first
    block are above theirs in this one. The best are taken since it is among them that the order matters.
    """

    def __init__(self, scorer: ListwiseScorer, *, passage_words: int) -> None:
        """Take the model, and how many words of a passage, its title included, it is given at most."""
        self._scorer = scorer
        self._passage_words = passage_words

    async def rerank(self, query: str, passages: Sequence[Passage]) -> Ranking:
        """Return the passages by falling score, which replaces the first stage's; equal scores keep their order.

        Raises:
            RagServerError: The scorer does not answer, or refuses even short texts.
        """
        scores: list[float] = []
        anchors: list[int] = []
        report = RankingReport()
        while len(scores) < len(passages):
            new = range(len(passages))[len(scores) :][: BLOCK_SIZE - len(anchors)]
            block, of_block = await self._score_block(query, [passages[index] for index in [*anchors, *new]])
            above = [scores[index] - score for index, score in zip(anchors, block, strict=False)]
            shift = fmean(above) if above else 0.0
            scores += [score + shift for score in block[len(anchors) :]]
            anchors = anchors or _order(scores)[:NUM_ANCHORS]
            report += of_block
        scored = [replace(passage, score=score) for passage, score in zip(passages, scores, strict=True)]
        return Ranking(in_order(scored, _order(scores)), report)

    async def _score_block(self, query: str, passages: Sequence[Passage]) -> tuple[list[float], RankingReport]:
        """Return the scores of passages that are read together; of their beginnings where the context does not hold them."""
        started = time.perf_counter()
        read = ranking_texts(passages, self._passage_words)
        whole = texts = list(read.texts)
        longest = max(map(len, texts))
        while True:
            try:
                scores, num_tokens = await self._scorer.score(without_special_tokens(query), texts)
                break
            except EngineRequestError as error:
                if error.status != TOO_LONG or longest <= MIN_CHARACTERS:
                    raise
            longest //= 2
            texts = [text[:longest] for text in whole]
        report = RankingReport(
            calls=1,
            prompt_tokens=num_tokens,
            seconds=time.perf_counter() - started,
            words=read.words,
            words_cut=read.words_cut + _num_words(whole) - _num_words(texts),
        )
        return scores, report


def _order(scores: Sequence[float]) -> list[int]:
    return sorted(range(len(scores)), key=lambda index: (-scores[index], index))


def _num_words(texts: Sequence[str]) -> int:
    return sum(len(text.split()) for text in texts)
