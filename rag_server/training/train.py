"""Trains an adapter with which a language model answers from passages, in the prompt that the server sends.

python -m rag_server.training.train --base FOLDER --rows rows.jsonl --out FOLDER

A run that was interrupted goes on where its last checkpoint is when the same command is given again. The adapter is in
FOLDER/adapter, what made it in FOLDER/training.json.
"""

import argparse
import functools
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog
from rich.console import Console
from rich.progress import track

from indexers.sentence_embedder import SentenceEmbedder
from rag_server.errors import RagServerError, TrainingDataError
from rag_server.learning.arguments import adapter_options, add_training_arguments, training_options
from rag_server.learning.loop import run_training
from rag_server.learning.models import load_model, load_tokenizer, with_adapter
from rag_server.learning.options import AdapterOptions, TrainingOptions
from rag_server.learning.record import file_hash, save_adapter, write_record
from rag_server.learning.splits import check_no_leak
from rag_server.training.answer_loss import answer_loss, collate
from rag_server.training.distractors import find_distractors
from rag_server.training.examples import ExampleOptions, TokenizedExample, make_example, tokenized
from rag_server.training.rows import Row, read_rows

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Sources:
    """What is trained, and on what; `held_out` are rows that are measured with, which must not be among those trained on."""

    base: Path
    rows: Path
    held_out: Path | None = None


def train(sources: Sources, options: TrainingOptions, adapter: AdapterOptions, making: ExampleOptions) -> Path:
    """Train and return the folder of the adapter.

    Raises:
        RagServerError: The data, the model or the run is not fit for it; see the errors of `run_training`.
    """
    rows = read_rows(sources.rows)
    if sources.held_out is not None:
        _check_held_out(rows, read_rows(sources.held_out))
    tokenizer = load_tokenizer(sources.base)
    examples = make_examples(rows, tokenizer, options, making)
    model = with_adapter(load_model(sources.base, options.precision), adapter, seed=options.seed)
    padding_id = int(tokenizer.pad_token_id or tokenizer.eos_token_id)
    decisive = {
        "rows": file_hash(sources.rows),
        "base": str(sources.base),
        "adapter": asdict(adapter),
        "examples": asdict(making),
    }
    ran = run_training(
        model,
        examples,
        loss=answer_loss,
        collate=functools.partial(collate, padding_id=padding_id),
        options=options,
        what=str(decisive),
        lengths=[len(example.token_ids) for example in examples],
    )
    folder = options.out / "adapter"
    save_adapter(model, folder)
    write_record(
        options.out, {**decisive, "num_examples": len(examples), "tokens_per_s": ran.tokens_per_s, "log": ran.log}, options
    )
    return folder


def make_examples(
    rows: Sequence[Row], tokenizer: Any, options: TrainingOptions, making: ExampleOptions
) -> list[TokenizedExample]:
    """Return as many examples as the run takes, each round over the rows with other passages and in another order.

    Raises:
        TrainingDataError: None is short enough.
    """
    chooser = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        distractors = find_distractors(rows, SentenceEmbedder(), Path(folder) / "bm25", chooser=chooser)
    wanted = options.steps * options.batch_size * options.accumulation
    places: list[int] = []
    while len(places) < wanted:
        places += chooser.sample(range(len(rows)), len(rows))
    made = [
        tokenized(make_example(rows[place], distractors[place], making, chooser), tokenizer, making.max_tokens)
        for place in track(places[:wanted], description="examples", console=Console(stderr=True))
    ]
    examples = [example for example in made if example is not None]
    if not examples:
        raise TrainingDataError(f"no example is as short as {making.max_tokens} tokens: allow longer ones, or fewer passages")
    log.info("examples", number=len(examples), too_long=len(made) - len(examples))
    return examples


def _check_held_out(rows: Sequence[Row], held_out: Sequence[Row]) -> None:
    check_no_leak((row.question for row in rows), (row.question for row in held_out), what="question")
    golds = [(passage.text for row in some for passage in row.passages if passage.gold) for some in (rows, held_out)]
    check_no_leak(golds[0], golds[1], what="gold passage")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the status is 1 where there is no adapter in the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="model folder")
    parser.add_argument("--rows", type=Path, required=True, help="questions with answers and passages, JSON Lines")
    parser.add_argument("--held-out", type=Path, help="rows that are measured with; none of them may be trained on")
    defaults = ExampleOptions()
    parser.add_argument("--max-passages", type=int, default=defaults.max_passages, help="an example has 1 to so many")
    parser.add_argument("--max-tokens", type=int, default=defaults.max_tokens, help="longer examples are left out")
    parser.add_argument(
        "--unanswerable", type=float, default=defaults.unanswerable, help="share whose gold passage is left out"
    )
    parser.add_argument("--reasoned", type=float, default=defaults.reasoned, help="share that says first which passages matter")
    add_training_arguments(parser)
    given = parser.parse_args(arguments)
    making = ExampleOptions(given.max_passages, given.max_tokens, given.unanswerable, given.reasoned)
    try:
        folder = train(Sources(given.base, given.rows, given.held_out), training_options(given), adapter_options(given), making)
    except RagServerError as error:
        sys.exit(f"{error.code}: {error}")
    print(folder)


if __name__ == "__main__":
    main()
