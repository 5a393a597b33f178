"""How long the first indexing of a collection takes."""

from dataclasses import dataclass

from eval.scaling import published
from eval.scaling.constants import Constants

SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True)
class FirstIndexing:
    """Hours of each part; they overlap, so that the longest counts."""

    embedding_one_machine_h: float
    embedding_gpus_h: float
    storing_one_process_h: float


def first_indexing(passages: int, constants: Constants, cores: int) -> FirstIndexing:
    """Return the hours for so many passages, with the embedding model on one machine's cores or on the GPUs of the plan."""
    store = constants.store("postgresql")
    tokens_per_s = minilm_tokens_per_s() * published.EMBEDDING_GPUS.value
    return FirstIndexing(
        embedding_one_machine_h=passages * constants.embedding.passage_core_ms / 1000 / cores / SECONDS_PER_HOUR,
        embedding_gpus_h=passages * store.tokens / tokens_per_s / SECONDS_PER_HOUR,
        storing_one_process_h=passages * store.ingest_core_ms / 1000 / SECONDS_PER_HOUR,
    )


def minilm_tokens_per_s() -> float:
    """Return the tokens per second of the packaged model on one L4, from those of a larger model of the same kind."""
    by_arithmetic = published.BERT_LARGE_TOKENS.value * published.BERT_LARGE_WEIGHTS.value / published.MINILM_WEIGHTS.value
    return by_arithmetic * published.SMALL_MODEL_EFFICIENCY.value
