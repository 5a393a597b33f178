"""The candidate-set ranker on lists of a rule: it learns, knows no order but the first stage's, and is loaded as saved."""

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rag_server.errors import ConfigError, TrainingDataError
from rag_server.learning.options import TrainingOptions
from rag_server.types import Vectors
from rerankers.candidate_set_network import CandidateSetNetwork, NetworkShape, candidate_features
from rerankers.candidate_set_ranker import CandidateSetReranker, load_candidate_set_ranker, save_candidate_set_ranker
from rerankers.training.candidate_set import CandidateSet, candidate_set, collate, train_network
from rerankers.training.labels import RankingLabel, as_passages, judged_label
from tests.rerankers.training.conftest import candidates

SHAPE = NetworkShape(dimension=8, width=16, num_layers=1, num_heads=2)


class VectorsByName:
    """In the place of an embedder: the vector is written in the text, `1 0.5 ...`, and brought to unit length."""

    model_id = "by name"
    location = None
    dimension = 8
    max_tokens = 100

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        rows = np.array([[float(number) for number in text.split()] for text in texts], dtype=np.float32)
        unit: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit

    embed_passages = embed_queries


def rule_label(seed: int) -> RankingLabel:
    """Eight random passages; the two whose third column agrees best with the query's are relevant, which no feature tells."""
    generator = random.Random(seed)
    rows = [[generator.gauss(0, 1) for _ in range(8)] for _ in range(9)]
    query, passages = rows[0], rows[1:]
    best = sorted(range(8), key=lambda index: -passages[index][2] * query[2] / np.linalg.norm(passages[index]))[:2]
    found = candidates([" ".join(f"{value:.4f}" for value in row) for row in passages])
    return judged_label(f"q{seed}", " ".join(f"{value:.4f}" for value in query), found, {f"d{index}": 1 for index in best})


def top_hits(ranker: CandidateSetReranker, labels: Sequence[RankingLabel]) -> float:
    """Return the mean number of relevant passages among the first two."""
    hits = 0
    for one in labels:
        ranked = asyncio.run(ranker.rerank(one.query, as_passages(one.passages))).passages
        hits += sum((one.grades or ())[passage.id] for passage in ranked[:2])
    return hits / len(labels)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[CandidateSetNetwork, list[float]]:
    """A network trained on 300 lists of the rule, and its loss from time to time."""
    sets = [candidate_set(rule_label(seed), VectorsByName()) for seed in range(300)]
    out = tmp_path_factory.mktemp("run")
    options = TrainingOptions(out, steps=100, batch_size=32, accumulation=1, learning_rate=1e-2, save_every=1000, log_every=10)
    network, ran = train_network(sets, SHAPE, options, what="the rule")
    return network, [row["loss"] for row in ran.log]


def test_a_rule_is_learned_from_lists(trained: tuple[CandidateSetNetwork, list[float]]) -> None:
    """The loss falls, and on lists that were not trained on it finds far more than the first stage or fusion do."""
    network, losses = trained
    held_out = [rule_label(seed) for seed in range(1000, 1100)]
    untrained = CandidateSetReranker(CandidateSetNetwork(SHAPE), VectorsByName())
    first_stage = sum(sum((one.grades or ())[:2]) for one in held_out) / 100

    assert losses[-1] < losses[0] - 0.3
    learned = top_hits(CandidateSetReranker(network, VectorsByName()), held_out)
    assert learned > max(first_stage, top_hits(untrained, held_out)) + 0.3


def test_the_order_in_which_candidates_come_is_nothing_to_it(trained: tuple[CandidateSetNetwork, list[float]]) -> None:
    """Passages in another order, with the ranks that they had, get the same scores."""
    network, _ = trained
    one = rule_label(7)
    ranker = CandidateSetReranker(network, VectorsByName())
    passages = as_passages(one.passages)
    turned = [passages[index] for index in (3, 7, 0, 5, 2, 1, 6, 4)]

    scores = {passage.id: passage.score for passage in asyncio.run(ranker.rerank(one.query, passages)).passages}
    again = {passage.id: passage.score for passage in asyncio.run(ranker.rerank(one.query, turned)).passages}
    assert again == pytest.approx(scores, abs=1e-5)
    assert len(set(scores.values())) == 8


def test_candidates_see_each_other(trained: tuple[CandidateSetNetwork, list[float]]) -> None:
    """With another passage in the list, the scores of the rest are others; features are held still."""
    network, _ = trained
    one = candidate_set(rule_label(7), VectorsByName())
    other = replace(one, passages=torch.cat([one.passages[:-1], -one.passages[-1:]]))
    batch = collate([one, other])

    scores = network(batch["queries"], batch["passages"], batch["features"], batch["mask"])
    assert not torch.allclose(scores[0, :-1], scores[1, :-1])


def test_padding_changes_no_score(trained: tuple[CandidateSetNetwork, list[float]]) -> None:
    """A short list scores beside a longer one as it does by itself."""
    network, _ = trained
    long = candidate_set(rule_label(7), VectorsByName())
    short = CandidateSet(long.query, long.passages[:3], long.features[:3], long.gains[:3])
    together, alone = collate([long, short]), collate([short])

    scores = [network(batch["queries"], batch["passages"], batch["features"], batch["mask"]) for batch in (together, alone)]
    assert torch.allclose(scores[0][1, :3], scores[1][0], atol=1e-5)


def test_untrained_it_is_the_fusion_of_both_rankings() -> None:
    """Reciprocal ranks of the first stage and of the cosine, summed: computed apart, the same order."""
    network = CandidateSetNetwork(SHAPE).eval()
    one = candidate_set(rule_label(3), VectorsByName())
    batch = collate([one])
    scores = network(batch["queries"], batch["passages"], batch["features"], batch["mask"])[0].tolist()
    cosines = (one.passages @ one.query).tolist()
    fused = [
        1 / (60 + index + 1) + 1 / (60 + 1 + sum(other > cosine for other in cosines)) for index, cosine in enumerate(cosines)
    ]

    assert scores == pytest.approx([600 * value for value in fused], rel=1e-4)


def test_features_do_not_depend_on_the_scale_of_scores() -> None:
    """BM25's scores of tens and fusion's of hundredths say the same; equal scores are no division by zero."""
    ranks, cosines = torch.tensor([1, 2, 3]), torch.tensor([0.1, 0.3, 0.1])
    small, large = (candidate_features(ranks, scale * torch.tensor([3.0, 2.0, 0.5]), cosines) for scale in (0.01, 100))

    assert torch.allclose(small, large, atol=1e-4)
    assert candidate_features(ranks, torch.ones(3), torch.ones(3)).isfinite().all()
    assert small[0, 1] == small[2, 1] == 60 / 62


def test_it_is_loaded_as_it_was_saved(trained: tuple[CandidateSetNetwork, list[float]], tmp_path: Path) -> None:
    """The same scores to the last bit; nothing and one passage are ranked too."""
    network, _ = trained
    save_candidate_set_ranker(tmp_path / "model", network, VectorsByName())
    loaded, before = (
        load_candidate_set_ranker(tmp_path / "model", VectorsByName()),
        CandidateSetReranker(network, VectorsByName()),
    )
    one = rule_label(5)
    passages = as_passages(one.passages)

    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]
    rankings = [asyncio.run(ranker.rerank(one.query, passages)).passages for ranker in (loaded, before)]
    assert rankings[0] == rankings[1]
    assert [passage.rank for passage in rankings[0]] == list(range(1, 9))
    assert asyncio.run(loaded.rerank(one.query, [])).passages == ()
    assert len(asyncio.run(loaded.rerank(one.query, passages[:1])).passages) == 1


class OtherVectors(VectorsByName):
    """Another embedder."""

    model_id = "another"


def test_a_folder_for_another_embedder_is_refused(tmp_path: Path) -> None:
    """Its vectors would mean something else."""
    save_candidate_set_ranker(tmp_path, CandidateSetNetwork(SHAPE), VectorsByName())

    with pytest.raises(ConfigError, match="trained on vectors of by name, not of another"):
        load_candidate_set_ranker(tmp_path, OtherVectors())


@pytest.mark.parametrize("damage", ["no folder", "config", "sizes", "unknown size", "weights", "other weights"])
def test_a_damaged_folder_is_named(tmp_path: Path, damage: str) -> None:
    """Whatever is wrong with it, the error names the folder."""
    folder = tmp_path / "model"
    save_candidate_set_ranker(folder, CandidateSetNetwork(SHAPE), VectorsByName())
    config = json.loads((folder / "config.json").read_text())
    if damage == "no folder":
        folder = tmp_path / "none"
    elif damage == "config":
        (folder / "config.json").write_text("{")
    elif damage == "weights":
        (folder / "model.safetensors").write_bytes(b"no weights")
    elif damage == "other weights":
        save_candidate_set_ranker(tmp_path / "other", CandidateSetNetwork(NetworkShape(8, 32, 1, 2)), VectorsByName())
        (tmp_path / "other" / "model.safetensors").replace(folder / "model.safetensors")
    else:
        changed = {"width": 15} if damage == "sizes" else {"colour": 1}
        (folder / "config.json").write_text(json.dumps({**config, "shape": config["shape"] | changed}))

    with pytest.raises(ConfigError):
        load_candidate_set_ranker(folder, VectorsByName())


def test_vectors_of_another_dimension_are_refused(tmp_path: Path) -> None:
    """Before anything is trained."""
    sets = [candidate_set(rule_label(1), VectorsByName())]
    with pytest.raises(TrainingDataError, match="vectors of 9 columns"):
        train_network(sets, NetworkShape(9, 16), TrainingOptions(tmp_path, steps=1), what="")
