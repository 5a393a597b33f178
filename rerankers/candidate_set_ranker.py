"""Reranks by a small network that sees every candidate as its vector and its place in the first stage, all of them at once."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rag_server.errors import ConfigError, RerankError
from rag_server.protocols import Embedder
from rag_server.types import Passage, Ranking, RankingReport
from rerankers.permutation import in_order

if TYPE_CHECKING:
    import torch

    from rerankers.candidate_set_network import CandidateSetNetwork

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


class CandidateSetReranker:
    """Takes milliseconds for a hundred candidates beside what their vectors take, which are embedded anew.

    The first stage's rank and score are those that the passages bear.
    """

    def __init__(self, network: "CandidateSetNetwork", embedder: Embedder) -> None:
        """Take a trained network, and the embedder whose vectors it was trained on."""
        self._network = network.eval()
        self._embedder = embedder

    async def rerank(self, query: str, passages: Sequence[Passage]) -> Ranking:
        """Return the passages by falling score, which replaces the first stage's; equal scores keep their order."""
        if not passages:
            return Ranking(())
        started = time.perf_counter()
        scores = await asyncio.to_thread(self._scores, query, passages)
        scored = [replace(passage, score=score) for passage, score in zip(passages, scores, strict=True)]
        order = sorted(range(len(scored)), key=lambda index: (-scores[index], index))
        return Ranking(in_order(scored, order), RankingReport(calls=1, seconds=time.perf_counter() - started))

    def _scores(self, query: str, passages: Sequence[Passage]) -> list[float]:
        import torch

        query_vector, vectors, features = network_input(self._embedder, query, passages)
        with torch.inference_mode():
            mask = torch.ones(1, len(passages), dtype=torch.bool)
            scores = self._network(query_vector.unsqueeze(0), vectors.unsqueeze(0), features.unsqueeze(0), mask)[0]
        if not scores.isfinite().all():
            raise RerankError("the candidate-set ranker gave scores that are no numbers; its folder may be damaged")
        return [float(score) for score in scores]


def network_input(
    embedder: Embedder, query: str, passages: Sequence[Passage]
) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
    """Return the query's vector [dimension], the passages' [passages, dimension], and their features."""
    import torch

    from rerankers.candidate_set_network import candidate_features

    query_vector = torch.from_numpy(embedder.embed_queries([query])[0])
    # As chunks of documents without headings are embedded when they are indexed.
    texts = [f"{passage.title}\n{passage.text}".strip() for passage in passages]
    vectors = torch.from_numpy(embedder.embed_passages(texts))
    ranks = torch.tensor([passage.rank for passage in passages])
    scores = torch.tensor([passage.score for passage in passages], dtype=torch.float64)
    return query_vector, vectors, candidate_features(ranks, scores, vectors @ query_vector)


def load_candidate_set_ranker(folder: Path, embedder: Embedder) -> CandidateSetReranker:
    """Return the ranker that `save_candidate_set_ranker` wrote.

    Raises:
        ConfigError: The folder holds none, or one for the vectors of another embedder.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from rerankers.candidate_set_network import CandidateSetNetwork, NetworkShape

    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        network = CandidateSetNetwork(NetworkShape(**config["shape"]))
        network.load_state_dict(load_file(folder / WEIGHTS_FILE))
        trained_with = str(config["embedder"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"{folder} holds no candidate-set ranker that can be loaded: {error}") from error
    if (trained_with, network.shape.dimension) != (embedder.model_id, embedder.dimension):
        raise ConfigError(f"{folder} was trained on vectors of {trained_with}, not of {embedder.model_id}: train it anew")
    return CandidateSetReranker(network, embedder)


def save_candidate_set_ranker(folder: Path, network: "CandidateSetNetwork", embedder: Embedder) -> None:
    """Write the weights, the sizes and the name of the embedder whose vectors it reads."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), folder / WEIGHTS_FILE)
    config = {"embedder": embedder.model_id, "shape": asdict(network.shape)}
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
