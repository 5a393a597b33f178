"""A small transformer over a whole list of candidates, each known by its vector and its place in the first stage alone."""

from dataclasses import dataclass

import torch
from torch import nn

from rag_server.errors import ConfigError

# As in reciprocal rank fusion: larger means that low ranks weigh more.
RANK_CONSTANT = 60
# So much more likely does fusion alone make the first of a list than its hundredth, as a difference of logits.
FUSION_SCALE = 10.0
NUM_FEATURES = 6


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """The sizes of a network; `dimension` is that of the embedder's vectors."""

    dimension: int
    width: int = 64
    num_layers: int = 2
    num_heads: int = 4

    def __post_init__(self) -> None:
        """Make sure that there can be such a network.

        Raises:
            ConfigError: There cannot.
        """
        if min(self.dimension, self.width, self.num_layers, self.num_heads) < 1 or self.width % self.num_heads:
            raise ConfigError("a candidate-set ranker's sizes must be 1 or more, its width a multiple of num_heads")


class CandidateSetNetwork(nn.Module):
    """Scores all candidates of a list together: what PE-Rank (arXiv 2406.14848) does in a language model, in a few layers.

    It knows no positions but those among the features, so that a list in another order gets the same scores. Before any
    training its scores are the fusion of the first stage's rank and the cosine's.
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        self.passage = nn.Linear(shape.dimension, shape.width)
        self.agreement = nn.Linear(shape.dimension, shape.width, bias=False)
        self.features = nn.Linear(NUM_FEATURES, shape.width, bias=False)
        layer = nn.TransformerEncoderLayer(
            shape.width, shape.num_heads, 4 * shape.width, dropout=0.1, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, shape.num_layers, enable_nested_tensor=False)
        self.score = nn.Linear(shape.width, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)
        self.fusion = nn.Linear(NUM_FEATURES, 1, bias=False)
        with torch.no_grad():
            self.fusion.weight.copy_(FUSION_SCALE * (torch.arange(NUM_FEATURES) < 2).float())

    def forward(
        self, queries: torch.Tensor, passages: torch.Tensor, features: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Return scores [lists, candidates], higher is better.

        Args:
            queries: [lists, dimension], unit vectors.
            passages: [lists, candidates, dimension], unit vectors.
            features: [lists, candidates, NUM_FEATURES] of `candidate_features`.
            mask: [lists, candidates], False where a list has no candidate; the scores there mean nothing.
        """
        # A unit vector's columns are of the size of 1 / sqrt(dimension).
        scale = self.shape.dimension**0.5
        agreement = scale * queries.unsqueeze(1) * passages
        states = self.passage(scale * passages) + self.agreement(scale * agreement) + self.features(features)
        states = self.layers(states, src_key_padding_mask=~mask)
        scores: torch.Tensor = (self.score(states) + self.fusion(features)).squeeze(-1)
        return scores


def candidate_features(ranks: torch.Tensor, scores: torch.Tensor, cosines: torch.Tensor) -> torch.Tensor:
    """Return [candidates, NUM_FEATURES] of one list from the first stage's ranks (from 1) and scores, and the cosines.

    None of them depends on the scale of the first stage's scores, which differs from retriever to retriever.
    """
    # Equal cosines are of one rank, whatever their order.
    cosine_ranks = 1 + (cosines.unsqueeze(0) > cosines.unsqueeze(1)).sum(dim=1)
    columns = [
        RANK_CONSTANT / (RANK_CONSTANT + ranks),
        RANK_CONSTANT / (RANK_CONSTANT + cosine_ranks),
        _standardised(scores),
        _standardised(cosines),
        cosines,
        torch.log(ranks),
    ]
    return torch.stack([column.float() for column in columns], dim=1)


def _standardised(values: torch.Tensor) -> torch.Tensor:
    centred = values - values.mean()
    return centred / centred.square().mean().sqrt().clamp(min=1e-6)
