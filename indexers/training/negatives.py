"""Finds hard negatives: passages that an embedder ranks high for a query, and that are not among its right ones."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from indexers.faiss_index import FaissIndex
from indexers.training.data import Example
from rag_server.errors import TrainingDataError
from rag_server.learning.splits import content_hash
from rag_server.protocols import Embedder
from rag_server.types import Cursor, LoggedChunk, LogPage


@dataclass(frozen=True, slots=True)
class MiningOptions:
    """Take `num_negatives` passages after the first `skip_ranks`, which often are right though nobody said so."""

    num_negatives: int = 7
    skip_ranks: int = 10


def mine_negatives(
    examples: Sequence[Example], corpus: Sequence[str], embedder: Embedder, options: MiningOptions
) -> list[Example]:
    """Return the examples with mined negatives after their own.

    Args:
        examples: Their own passages are found too, whether they are in the corpus or not.
        corpus: More passages to find.
        embedder: Ranks the passages.
        options: Which ranks are taken.

    Raises:
        TrainingDataError: There are too few passages for the ranks.
    """
    own = (text for example in examples for text in (*example.positives, *example.negatives))
    passages = list({content_hash(text): text for text in (*own, *corpus)}.values())
    most_known = max(len(example.positives) + len(example.negatives) for example in examples)
    depth = options.skip_ranks + options.num_negatives + most_known
    if len(passages) < depth:
        raise TrainingDataError(
            f"{options.num_negatives} negatives after the first {options.skip_ranks} ranks cannot be taken from "
            f"{len(passages)} passages, some of them right: give more passages, or skip fewer ranks"
        )
    queries = embedder.embed_queries([example.query for example in examples])
    with tempfile.TemporaryDirectory() as folder:
        index = FaissIndex(Path(folder), dimension=embedder.dimension)
        vectors = embedder.embed_passages(passages)
        added = tuple(LoggedChunk(row + 1, "", text, vectors[row]) for row, text in enumerate(passages))
        index.apply(LogPage(added, (), Cursor(len(passages), 0)))
        mined = []
        for example, query in zip(examples, queries, strict=True):
            ranked = [passages[hit.chunk_id - 1] for hit in index.search(query, depth)]
            mined.append(_with_negatives(example, ranked, options))
    return mined


def _with_negatives(example: Example, ranked: Sequence[str], options: MiningOptions) -> Example:
    known = {content_hash(text) for text in (*example.positives, *example.negatives)}
    found = [text for text in ranked[options.skip_ranks :] if content_hash(text) not in known][: options.num_negatives]
    return example.model_copy(update={"negatives": (*example.negatives, *found)})
