"""Measures the cross-encoder stage beside the bare model: the same pairs, sorted by length, straight through transformers."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from eval.ranking.datasets import RerankingDataset
from eval.report import Table
from indexers.sentence_embedder import packaged_folder
from rag_server.config import Settings
from rerankers.cross_encoder import BATCH_SIZE, CrossEncoderReranker

# Each side goes first every second time, since the other one finds warm caches.
ROUNDS = 6
WANTED_SHARE = 0.9


async def compare_cross_encoder(settings: Settings, dataset: RerankingDataset, scratch: Path) -> Table:
    """Return pairs per second of the stage and of the bare model, on one query's candidates at a time.

    Without a configured cross-encoder it is one of the packaged embedding model's weights with an untrained head, made in
    `scratch`: its order means nothing, its speed is that of any cross-encoder of six small layers.
    """
    configured = settings.rerank.model if settings.rerank.kind == "cross_encoder" else None
    folder = configured or _untrained(scratch / "cross-encoder")
    reranker = CrossEncoderReranker(folder, device=settings.embedder.device)
    bare = _bare(folder)
    query_id, query = next(iter(dataset.queries.items()))
    passages = dataset.candidates[query_id]
    pairs = [(query, f"{passage.title} {passage.text}".strip()) for passage in passages]
    stage_s: list[float] = []
    bare_s: list[float] = []

    async def time_stage() -> None:
        started = time.perf_counter()
        await reranker.rerank(query, passages)
        stage_s.append(time.perf_counter() - started)

    async def time_bare() -> None:
        started = time.perf_counter()
        bare(pairs)
        bare_s.append(time.perf_counter() - started)

    for number in range(ROUNDS + 1):
        for side in (time_stage, time_bare) if number % 2 else (time_bare, time_stage):
            await side()
    # The first round warms up.
    ratio = statistics.median(bare_time / stage for bare_time, stage in zip(bare_s[1:], stage_s[1:], strict=True))
    speeds = (len(pairs) / statistics.median(stage_s[1:]), len(pairs) / statistics.median(bare_s[1:]))
    columns = ("cross-encoder", "pairs/s, stage", "pairs/s, bare model", "share", "at least")
    return Table("Cross-encoder", columns, ((configured or "untrained, 6 layers", *speeds, ratio, WANTED_SHARE),))


def _untrained(folder: Path) -> str:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    # It would tell at length that the head is untrained.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    source = packaged_folder()
    AutoModelForSequenceClassification.from_pretrained(source, num_labels=1, local_files_only=True).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, local_files_only=True).save_pretrained(folder)
    return str(folder)


def _bare(folder: str) -> Callable[[Sequence[tuple[str, str]]], list[float]]:
    """Return a function that scores pairs with nothing around the model."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()

    @torch.inference_mode()
    def score(pairs: Sequence[tuple[str, str]]) -> list[float]:
        by_length = sorted(pairs, key=lambda pair: -len(pair[1]))
        scores: list[float] = []
        for start in range(0, len(by_length), BATCH_SIZE):
            queries, texts = zip(*by_length[start : start + BATCH_SIZE], strict=True)
            inputs = tokenizer(list(queries), list(texts), padding=True, truncation=True, return_tensors="pt")
            scores += model(**inputs).logits[:, 0].tolist()
        return scores

    return score
