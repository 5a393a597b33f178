"""Trains the candidate-set ranker on labels: minutes on a CPU, most of it for the passages' vectors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rag_server.errors import TrainingDataError
from rag_server.learning.loop import Batch, TrainingRun, run_training
from rag_server.learning.options import TrainingOptions
from rag_server.protocols import Embedder
from rerankers.candidate_set_network import CandidateSetNetwork, NetworkShape
from rerankers.candidate_set_ranker import network_input
from rerankers.training.labels import RankingLabel, as_passages
from rerankers.training.listwise_loss import gains_of, listwise_loss, padded


@dataclass(frozen=True, slots=True, eq=False)
class CandidateSet:
    """A label in numbers: vectors of the query and its passages, the passages' features, and their gains."""

    query: torch.Tensor
    passages: torch.Tensor
    features: torch.Tensor
    gains: tuple[float, ...]


def candidate_set(label: RankingLabel, embedder: Embedder) -> CandidateSet:
    """Return the label in numbers; embeds its passages."""
    query, passages, features = network_input(embedder, label.query, as_passages(label.passages))
    return CandidateSet(query, passages, features, tuple(gains_of(label)))


def train_network(
    sets: Sequence[CandidateSet], shape: NetworkShape, options: TrainingOptions, *, what: str
) -> tuple[CandidateSetNetwork, TrainingRun]:
    """Return a network trained on the sets; `what` names where they are from.

    Raises:
        TrainingDataError: The vectors are of another dimension, or the folder holds another run.
        TrainingDivergedError: The loss is no number.
    """
    if any(one.passages.shape[1] != shape.dimension for one in sets):
        raise TrainingDataError(f"the network is for vectors of {shape.dimension} columns, and some have others")
    torch.manual_seed(options.seed)
    network = CandidateSetNetwork(shape)
    ran = run_training(network, sets, loss=set_loss, collate=collate, options=options, what=f"{shape} {what}")
    return network.eval(), ran


def collate(sets: Sequence[CandidateSet]) -> Batch:
    """Return the arguments of the network, and `gains`; `num_tokens` counts candidates, which are its tokens."""
    gains, mask = padded([one.gains for one in sets])
    return {
        "queries": torch.stack([one.query for one in sets]),
        "passages": torch.nn.utils.rnn.pad_sequence([one.passages for one in sets], batch_first=True),
        "features": torch.nn.utils.rnn.pad_sequence([one.features for one in sets], batch_first=True),
        "mask": mask,
        "gains": gains,
        "num_tokens": int(mask.sum()),
    }


def set_loss(model: Any, batch: Batch) -> tuple[torch.Tensor, Mapping[str, float]]:
    """Return the listwise loss of a batch of `collate`."""
    scores = model(batch["queries"], batch["passages"], batch["features"], batch["mask"])
    return listwise_loss(scores, batch["gains"], batch["mask"]), {}
