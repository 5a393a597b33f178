"""The training step of GRL: contrastive loss, generation loss, and the embedder following the generator, each with a weight."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from indexers.llm_embedder import LlmEmbedder
from indexers.training.generation import passage_log_probs
from indexers.training.gradcache import cached_backward
from indexers.training.losses import COMPARING, Preference, contrastive_loss, divergence_loss, preference_loss
from rag_server.errors import TrainingDataError


@dataclass(frozen=True, slots=True)
class Weight:
    """A loss's weight, which goes in a straight line from the first step's to the last one's."""

    first: float
    last: float

    def at(self, step: int, steps: int) -> float:
        """Return the weight of a step, counted from 0."""
        return self.first + (self.last - self.first) * step / max(1, steps - 1)

    @property
    def is_ever_used(self) -> bool:
        """Whether it is not 0 throughout."""
        return self.first > 0 or self.last > 0


@dataclass(frozen=True, slots=True)
class GrlOptions:
    """What is learned, and how much of each. Without generation and KL it is contrastive training alone."""

    steps: int
    contrastive: Weight = Weight(1, 1)
    generation: Weight = Weight(0.5, 0.5)
    kl: Weight = Weight(1, 1)
    preference: Preference = "dpo"
    beta: float = 0.1
    temperature: float = 0.05
    kl_temperature: float = 0.1

    def num_generated(self, num_negatives: int) -> int:
        """Return how many candidates of a query must be generated."""
        if self.kl.is_ever_used:
            return num_negatives + 1
        if self.generation.is_ever_used:
            return 2 if self.preference in COMPARING else 1
        return 0


class Grl:
    """Adds the gradients of one step, with the graph of one mini-batch in memory at a time."""

    def __init__(self, embedder: LlmEmbedder, options: GrlOptions, *, first_step: int = 0) -> None:
        """Take the weights of `first_step` at the first call.

        Raises:
            TrainingDataError: The generation loss compares with the model without its adapter, and there is none.
        """
        self._embedder = embedder
        self._options = options
        self._step = first_step
        compares = options.generation.is_ever_used and options.preference in COMPARING
        if compares and not hasattr(embedder.model, "disable_adapter"):
            raise TrainingDataError(f"{options.preference} compares with the model without its adapter: train one, or take sft")

    def __call__(self, model: Any, batch: dict[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """Return the loss and its parts.

        The gradients are already there: the loss is a leaf of its own, and its backward pass adds nothing to them. So a
        batch must be a whole update: gradients of several cannot be averaged here.
        """
        weights = {
            name: weight.at(self._step, self._options.steps)
            for name, weight in (
                ("contrastive", self._options.contrastive),
                ("generation", self._options.generation),
                ("kl", self._options.kl),
            )
        }
        self._step += 1
        told: dict[str, float] = {}
        scores = self._generate(batch, weights, told)
        order, candidates = batch["order"], batch["candidates"]

        def loss(unordered: Tensor) -> Tensor:
            vectors = unordered[order]
            queries, passages = vectors[: len(candidates)], vectors[len(candidates) :]
            return self._representation_loss(queries, passages, batch, scores, weights, told)

        total = cached_backward(batch["encoded"], self._embedder.vectors, loss) + weights["generation"] * told.get(
            "generation", 0
        )
        return total.requires_grad_(), told

    def _representation_loss(
        self,
        queries: Tensor,
        passages: Tensor,
        batch: dict[str, Any],
        scores: Tensor | None,
        weights: dict[str, float],
        told: dict[str, float],
    ) -> Tensor:
        candidates = batch["candidates"]
        contrastive = contrastive_loss(
            queries, passages, candidates[:, 0], batch["also_right"], temperature=self._options.temperature
        )
        told["contrastive"] = contrastive.item()
        total = weights["contrastive"] * contrastive
        if weights["kl"] > 0 and scores is not None:
            cosines = (queries[:, None] * passages[candidates]).sum(dim=-1)
            divergence = divergence_loss(cosines, scores, temperature=self._options.kl_temperature)
            told["kl"] = divergence.item()
            total = total + weights["kl"] * divergence
        return total

    def _generate(self, batch: dict[str, Any], weights: dict[str, float], told: dict[str, float]) -> Tensor | None:
        """Add the generation loss's gradients; return each candidate's mean log-probability, (queries, candidates)."""
        if not (weights["kl"] > 0 or weights["generation"] > 0):
            return None
        num_queries = len(batch["candidates"])
        rows = []
        for pairs in batch["generated"]:
            width = self._width(batch)
            size = len(pairs["input_ids"]) // width
            if weights["kl"] > 0:
                with torch.no_grad():
                    sums, lengths = passage_log_probs(self._embedder.model, pairs)
                rows.append((sums / lengths.clamp(min=1)).view(width, size).T)
            if weights["generation"] > 0:
                value = self._preference(pairs, size, width)
                torch.autograd.backward(weights["generation"] * value * size / num_queries)
                told["generation"] = told.get("generation", 0) + value.item() * size / num_queries
        return torch.cat(rows) if rows else None

    def _width(self, batch: dict[str, Any]) -> int:
        """Return how many candidates of each query are among the generated pairs."""
        return sum(len(pairs["input_ids"]) for pairs in batch["generated"]) // len(batch["candidates"])

    def _preference(self, pairs: dict[str, Tensor], size: int, width: int) -> Tensor:
        """Return the generation loss of a mini-batch of `size` queries, of the first and second candidate of each."""
        compares = self._options.preference in COMPARING
        if compares and width == 1:
            raise TrainingDataError(f"{self._options.preference} needs a wrong passage beside the right one: give negatives")
        used = {name: values[: size * (2 if compares else 1)] for name, values in pairs.items()}
        reference = None
        if compares:
            with torch.no_grad(), self._embedder.model.disable_adapter():
                sums, _ = passage_log_probs(self._embedder.model, used)
            reference = (sums[:size], sums[size:])
        sums, lengths = passage_log_probs(self._embedder.model, used)
        return preference_loss(
            (sums[:size], sums[size:]),
            reference,
            (lengths[:size].clamp(min=1), lengths[size:].clamp(min=1)),
            kind=self._options.preference,
            beta=self._options.beta,
        )
