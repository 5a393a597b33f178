"""A step of GRL against one graph over the whole batch, and what each loss reaches."""

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from indexers.llm_embedder import LlmEmbedder
from indexers.llm_embedder_folder import EmbedderOptions
from indexers.training.batches import Collator, compare
from indexers.training.data import Example
from indexers.training.generation import padded_pairs, pair_tokens, passage_log_probs
from indexers.training.grl import Grl, GrlOptions, Weight
from indexers.training.losses import Preference, contrastive_loss, divergence_loss, preference_loss
from rag_server.errors import TrainingDataError
from rag_server.learning.models import with_adapter
from rag_server.learning.options import AdapterOptions
from tests.indexers.tiny_llm import tiny_model, tiny_tokenizer

EXAMPLES = [
    Example(query="Where is Ada?", positives=("Ada is in London.",), negatives=("Ada is a language.", "A town.")),
    Example(query="Who sails?", positives=("The sailor does.",), negatives=("A sale.", "Nobody, for now.")),
    Example(query="What is a ketch?", positives=("A boat with two masts.",), negatives=("A sauce.", "A catch.")),
]
NEVER = Weight(0, 0)


def make_embedder(*, adapter: bool = True) -> LlmEmbedder:
    model: Any = tiny_model()
    if adapter:
        model = with_adapter(model, AdapterOptions(rank=4, dropout=0), seed=0)
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    return LlmEmbedder(model, tiny_tokenizer(), EmbedderOptions(max_tokens=128))


def step(embedder: LlmEmbedder, options: GrlOptions, *, mini_batch_size: int = 2) -> tuple[Tensor, dict[str, float]]:
    batch = Collator(embedder, 2, options.num_generated(2), mini_batch_size, 0)(EXAMPLES)
    value, told = Grl(embedder, options)(embedder.model, batch)
    torch.autograd.backward(value)
    return value, told


def gradients(embedder: LlmEmbedder) -> dict[str, Tensor]:
    return {name: value.grad for name, value in embedder.model.named_parameters() if value.grad is not None}


def direct_loss(embedder: LlmEmbedder, options: GrlOptions) -> Tensor:
    """Return the whole loss in one graph."""
    queries = [example.query for example in EXAMPLES]
    compared = compare(EXAMPLES, 2, random.Random("\n".join(["0", *queries])))
    vectors = [
        embedder.vectors(embedder.padded(embedder.tokens(texts, kind)))
        for texts, kind in ((queries, "query"), (compared.passages, "passage"))
    ]
    candidates = compared.candidates
    asked = [query for query in queries for _ in range(3)]
    told = [compared.passages[place] for place in candidates.flatten()]
    pairs = padded_pairs(embedder.tokenizer, pair_tokens(embedder.tokenizer, asked, told, max_tokens=128))
    sums, lengths = (values.view(3, 3) for values in passage_log_probs(embedder.model, pairs))
    reference = None
    if options.preference != "sft":
        with torch.no_grad(), embedder.model.disable_adapter():
            before = passage_log_probs(embedder.model, pairs)[0].view(3, 3)
        reference = (before[:, 0], before[:, 1])
    generation = preference_loss(
        (sums[:, 0], sums[:, 1]), reference, (lengths[:, 0], lengths[:, 1]), kind=options.preference, beta=options.beta
    )
    contrastive = contrastive_loss(
        vectors[0], vectors[1], candidates[:, 0], compared.also_right, temperature=options.temperature
    )
    cosines = torch.stack([vectors[1][row] @ query for row, query in zip(candidates, vectors[0], strict=True)])
    divergence = divergence_loss(cosines, sums / lengths, temperature=options.kl_temperature)
    weights = (options.contrastive.first, options.generation.first, options.kl.first)
    return weights[0] * contrastive + weights[1] * generation + weights[2] * divergence


@pytest.mark.parametrize("preference", ["dpo", "ipo", "sft"])
@pytest.mark.parametrize("mini_batch_size", [2, 5, 64])
def test_step_equals_one_graph(preference: Preference, mini_batch_size: int) -> None:
    """Loss and gradients of the three parts together equal those of one graph, whatever the mini-batches."""
    options = GrlOptions(1, Weight(0.7, 0.7), Weight(0.3, 0.3), Weight(2, 2), preference, kl_temperature=0.2)
    ours, theirs = make_embedder(), make_embedder()
    value, told = step(ours, options, mini_batch_size=mini_batch_size)
    expected = direct_loss(theirs, options)
    expected.backward()

    torch.testing.assert_close(value.detach(), expected.detach(), rtol=1e-4, atol=1e-5)
    assert value.item() == pytest.approx(0.7 * told["contrastive"] + 0.3 * told["generation"] + 2 * told["kl"], rel=1e-4)
    found, direct = gradients(ours), gradients(theirs)
    assert found.keys() == direct.keys()
    assert all("lora_" in name for name in found)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, direct[name], rtol=2e-3, atol=1e-4)


def test_generation_loss_trains_generation() -> None:
    """The generation part alone gives gradients, which lower it: it is not only told."""
    embedder = make_embedder()
    options = GrlOptions(1, NEVER, Weight(1, 1), NEVER)
    _, before = step(embedder, options)
    with torch.no_grad():
        for parameter in embedder.model.parameters():
            if parameter.grad is not None:
                parameter.sub_(parameter.grad, alpha=0.01 / max(1, parameter.grad.norm().item()))
    _, after = step(embedder, options)

    assert after["generation"] < before["generation"]


def test_contrastive_alone_generates_nothing() -> None:
    """Without generation and KL, no pair is tokenized, and nothing but the contrastive loss is told."""
    options = GrlOptions(1, generation=NEVER, kl=NEVER)
    embedder = make_embedder()
    value, told = step(embedder, options)

    assert options.num_generated(2) == 0
    assert told == {"contrastive": pytest.approx(value.item())}


def test_weights_go_from_first_to_last() -> None:
    """Each step takes the weight of its place in the run, also where the run goes on in the middle."""
    weight = Weight(0, 1)
    embedder = make_embedder()
    options = GrlOptions(5, contrastive=Weight(0, 1), generation=NEVER, kl=NEVER)
    batch = Collator(embedder, 2, 0, 8, 0)(EXAMPLES)
    resumed = Grl(embedder, options, first_step=3)
    shares = [value.item() / told["contrastive"] for value, told in (resumed(embedder.model, batch) for _ in range(2))]

    assert [weight.at(place, 5) for place in range(5)] == [0, 0.25, 0.5, 0.75, 1]
    assert shares == pytest.approx([0.75, 1])


def test_comparison_without_a_reference_is_refused() -> None:
    """A preference loss without an adapter to switch off is refused; SFT is not."""
    embedder = make_embedder(adapter=False)
    with pytest.raises(TrainingDataError, match="dpo compares with the model without its adapter"):
        Grl(embedder, GrlOptions(1))
    step(embedder, GrlOptions(1, preference="sft"))


def test_comparison_without_a_wrong_passage_is_refused() -> None:
    """A preference loss without any wrong passage is an error and not a loss of something else."""
    embedder = make_embedder()
    batch = Collator(embedder, 2, 2, 8, 0)([Example(query="a", positives=("b",))])
    with pytest.raises(TrainingDataError, match="needs a wrong passage"):
        Grl(embedder, GrlOptions(1, kl=NEVER))(embedder.model, batch)
