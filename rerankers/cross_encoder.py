"""Pointwise reranking by a cross-encoder, which reads the question and one passage together."""

import asyncio
import math
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rag_server.errors import ConfigError, RerankError
from rag_server.types import Passage, Ranking, RankingReport
from rerankers.passage_text import ranking_texts
from rerankers.permutation import in_order

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

BATCH_SIZE = 32
# For models that do not say how much they read.
MAX_WORDS = 8192


class CrossEncoderReranker:
    """A folder that `CrossEncoder.save()` of sentence-transformers wrote, with one score per pair."""

    def __init__(self, folder: str, *, device: str | None = None) -> None:
        """Load the model; takes seconds.

        Raises:
            ConfigError: It cannot be loaded, or gives more than one score.
        """
        self._model = _load(Path(folder).expanduser(), device)
        self._max_words = min(self._model.max_seq_length or MAX_WORDS, MAX_WORDS)

    async def rerank(self, query: str, passages: Sequence[Passage]) -> Ranking:
        """Return the passages by falling score, which replaces the first stage's; equal scores keep their order."""
        if not passages:
            return Ranking(())
        started = time.perf_counter()
        # A word is a token or more, so that no more words than the model reads tokens need be looked at.
        read = await asyncio.to_thread(ranking_texts, passages, self._max_words)
        scores = await asyncio.to_thread(self._scores, query, read.texts)
        scored = [replace(passage, score=score) for passage, score in zip(passages, scores, strict=True)]
        order = sorted(range(len(scored)), key=lambda index: (-scores[index], index))
        seconds = time.perf_counter() - started
        report = RankingReport(calls=1, seconds=seconds, words=read.words, words_cut=read.words_cut)
        return Ranking(in_order(scored, order), report)

    def _scores(self, query: str, texts: Sequence[str]) -> list[float]:
        pairs = [(query, text) for text in texts]
        # It sorts by length itself, so that a batch is padded little, and cuts what the model does not read.
        scores = [float(score) for score in self._model.predict(pairs, batch_size=BATCH_SIZE, show_progress_bar=False)]
        if not all(map(math.isfinite, scores)):
            raise RerankError("the cross-encoder gave scores that are no numbers; its folder may be damaged")
        return scores


def _load(folder: Path, device: str | None) -> "CrossEncoder":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from sentence_transformers import CrossEncoder

    if not (folder / "config.json").is_file():
        raise ConfigError(f"RAG_RERANK__MODEL: {folder} is not a model folder: it has no config.json")
    try:
        model: CrossEncoder = CrossEncoder(str(folder), device=device, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ConfigError(f"RAG_RERANK__MODEL: cannot load {folder}: {error}") from error
    if model.num_labels != 1:
        raise ConfigError(f"RAG_RERANK__MODEL: {folder} gives {model.num_labels} scores per pair; a reranker gives one")
    return model
