"""A cross-encoder made of a small embedder: trained, saved, and loaded as serving loads it."""

import asyncio
import json
import math
import random
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from rag_server.errors import TrainingDataError, UnsupportedModelError
from rerankers.cross_encoder import CrossEncoderReranker
from rerankers.training.cross_encoder import CrossEncoderOptions, main, new_cross_encoder, pair_list, pair_loss
from rerankers.training.labels import as_passages, judged_label, write_labels
from rerankers.training.listwise_loss import padded
from tests.rerankers.training.conftest import candidates, label

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = ["red", "blue", "green", "cat", "dog", "bird"]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as sentence-transformers writes it: one BERT layer of random weights, and mean pooling."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    folder = tmp_path_factory.mktemp("embedder")
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    fast.save_pretrained(folder / "bert")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, **sizes)).save_pretrained(folder / "bert")
    bert = Transformer(str(folder / "bert"), max_seq_length=32)
    SentenceTransformer(modules=[bert, Pooling(32)]).save(str(folder / "whole"))
    return folder / "whole"


@pytest.mark.parametrize("loss", ["listwise", "bce"])
def test_it_learns_and_serving_loads_it(embedder: Path, tmp_path: Path, loss: str) -> None:
    """Trained on which colours are relevant, it puts them first in lists of other animals."""
    made = [
        judged_label(f"{animal}{number}", animal, candidates([f"blue {animal}", f"green {animal}", f"red {animal}"]), {"d2": 1})
        for number in range(4)
        for animal in ("cat", "dog")
    ]
    write_labels(tmp_path / "labels.jsonl", made)
    out = tmp_path / "out"
    run = ["--steps", "40", "--batch-size", "4", "--accumulation", "1", "--learning-rate", "0.005", "--max-tokens", "32"]
    main(["--base", str(embedder), "--labels", str(tmp_path / "labels.jsonl"), "--out", str(out), "--loss", loss, *run])

    reranker = CrossEncoderReranker(str(out / "model"))
    ranking = asyncio.run(reranker.rerank("bird", as_passages(candidates(["green bird", "blue bird", "red bird"]))))
    record = json.loads((out / "training.json").read_text())
    assert ranking.passages[0].text == "red bird"
    assert record["log"][-1]["loss"] < record["log"][0]["loss"]
    assert len(record["labels"]) == 64


class FixedScores:
    """In the place of a cross-encoder: these scores."""

    def __call__(self, _: object) -> dict[str, torch.Tensor]:
        return {"scores": torch.tensor([[1.0], [-2.0], [0.5]])}


def test_both_losses_written_out() -> None:
    """Lists of two and of one pair: cross-entropy over the list, or of each pair by itself."""
    gains, mask = padded([[0.0, 3.0], [1.0]])
    batch = {"pairs": {}, "gains": gains, "mask": mask}

    listwise = (-(-2 - math.log(math.exp(1) + math.exp(-2))) + 0) / 2
    bce = (math.log(1 + math.exp(1)) + math.log(1 + math.exp(2)) + math.log(1 + math.exp(-0.5))) / 3
    assert pair_loss(FixedScores(), batch, kind="listwise")[0].item() == pytest.approx(listwise, rel=1e-5)
    assert pair_loss(FixedScores(), batch, kind="bce")[0].item() == pytest.approx(bce, rel=1e-5)


def test_half_of_the_pairs_are_the_best() -> None:
    """Of six passages four are read: the two that are labelled best, and two of the others, with their gains."""
    one = label(["a", "b", "c", "d", "e", "f"], [4, 2, 0, 1, 3, 5])
    made = pair_list(one, CrossEncoderOptions(num_passages=4), random.Random(0))

    assert [text for _, text in made.pairs[:2]] == ["e", "c"]
    assert len({text for _, text in made.pairs}) == 4
    assert made.gains[:2] == (1, 1 / 2)


def test_pairs_by_themselves_need_grades() -> None:
    """A teacher's order does not say from where on passages are of no use."""
    with pytest.raises(TrainingDataError, match="no grades"):
        pair_list(label(["a", "b"], [1, 0]), CrossEncoderOptions(loss="bce"), random.Random(0))


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    """Named, before anything is read."""
    with pytest.raises(UnsupportedModelError, match="cannot become a cross-encoder"):
        new_cross_encoder(tmp_path, max_tokens=32)
