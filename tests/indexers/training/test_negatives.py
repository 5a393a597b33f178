"""Mined negatives against a ranking by brute force."""

import numpy as np
import pytest

from indexers.training.data import Example
from indexers.training.negatives import MiningOptions, mine_negatives
from rag_server.errors import TrainingDataError
from rag_server.protocols import Embedder

CORPUS = [f"The {animal} lives in the {place}." for animal in ("cat", "dog", "cow") for place in ("house", "barn", "city")]
EXAMPLES = [
    Example(query="Where does the cat live?", positives=(CORPUS[0], CORPUS[1]), negatives=("A ketch has two masts.",)),
    Example(query="Who is in the barn?", positives=(CORPUS[7],)),
]


def test_negatives_are_the_ranks_after_those_skipped(embedder: Embedder) -> None:
    """They stand where an exact ranking of all passages has them, after the first ranks, without what is known of the query."""
    mined = mine_negatives(EXAMPLES, CORPUS, embedder, MiningOptions(num_negatives=3, skip_ranks=2))
    passages = list(dict.fromkeys([*CORPUS, "A ketch has two masts."]))
    scores = embedder.embed_queries([example.query for example in EXAMPLES]) @ embedder.embed_passages(passages).T
    for example, before, row in zip(mined, EXAMPLES, scores, strict=True):
        ranked = [passages[place] for place in np.argsort(-row)][2:]
        expected = [text for text in ranked if text not in (*before.positives, *before.negatives)][:3]

        assert example.negatives == (*before.negatives, *expected)
        assert (example.query, example.positives) == (before.query, before.positives)


def test_too_few_passages_are_refused(embedder: Embedder) -> None:
    """Ranks that do not exist are an error and not fewer negatives."""
    with pytest.raises(TrainingDataError, match="7 negatives after the first 10 ranks cannot be taken from 10 passages"):
        mine_negatives(EXAMPLES, CORPUS, embedder, MiningOptions())
