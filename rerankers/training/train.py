"""Trains a listwise ranker, an adapter or a whole model, in the prompt that the server sends.

python -m rerankers.training.train --base FOLDER --labels labels.jsonl --out FOLDER --format compact

A run that was interrupted goes on where its last checkpoint is when the same command is given again. The adapter is in
FOLDER/adapter, or the model in FOLDER/model; what made it is in FOLDER/training.json.
"""

import argparse
import functools
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from rag_server.config import ListwiseFormatKind
from rag_server.errors import ConfigError, RagServerError, TrainingDataError
from rag_server.learning.arguments import adapter_options, add_training_arguments, training_options
from rag_server.learning.loop import run_training
from rag_server.learning.models import dtype_of, load_model, load_tokenizer, with_adapter
from rag_server.learning.options import AdapterOptions, TrainingOptions
from rag_server.learning.record import file_hash, save_adapter, write_record
from rag_server.learning.splits import check_no_leak
from rerankers.listwise_format import PaperFormat
from rerankers.training.examples import DrawnExamples, ExampleMaker, ExampleOptions, collate
from rerankers.training.importance import compact_format, ranking_loss
from rerankers.training.labels import RankingLabel, read_labels


@dataclass(frozen=True, slots=True)
class Sources:
    """What is trained, and on what; the queries of `held_out` are measured with and must not be among those trained on."""

    base: Path
    labels: Path
    held_out: Path | None = None


def train(
    sources: Sources,
    options: TrainingOptions,
    adapter: AdapterOptions | None,
    making: ExampleOptions,
    *,
    form: ListwiseFormatKind,
) -> Path:
    """Train and return the folder of the adapter, or of the whole model where `adapter` is None.

    Raises:
        RagServerError: The data, the model or the run is not fit for it; see the errors of `run_training`.
    """
    labels = _labels(sources)
    tokenizer = load_tokenizer(sources.base)
    maker = ExampleMaker(tokenizer, compact_format(tokenizer) if form == "compact" else PaperFormat(), making)
    number = options.steps * options.batch_size * options.accumulation
    # The small steps of training all weights would be lost in the rounding of bfloat16.
    model = load_model(sources.base, options.precision if adapter is not None else "float32")
    _check_context(model, making.max_tokens)
    decisive = {
        "labels": file_hash(sources.labels),
        "base": str(sources.base),
        "format": form,
        "adapter": None if adapter is None else asdict(adapter),
        "examples": asdict(making),
    }
    trained = model if adapter is None else with_adapter(model, adapter, seed=options.seed)
    ran = run_training(
        trained,
        DrawnExamples(labels, maker, number=number, seed=options.seed),
        loss=functools.partial(ranking_loss, dtype=dtype_of(options.precision)) if adapter is None else ranking_loss,
        collate=functools.partial(collate, padding_id=int(tokenizer.pad_token_id or tokenizer.eos_token_id or 0)),
        options=options,
        what=str(decisive),
    )
    told = {**decisive, "num_labels": len(labels), "tokens_per_s": ran.tokens_per_s, "log": ran.log}
    write_record(options.out, told, options)
    return _save(trained, tokenizer, options.out, is_adapter=adapter is not None)


def _labels(sources: Sources) -> list[RankingLabel]:
    labels = read_labels(sources.labels)
    if sources.held_out is not None:
        check_no_leak((one.query for one in labels), (one.query for one in read_labels(sources.held_out)), what="query")
    return labels


def _check_context(model: Any, max_tokens: int) -> None:
    context = int(model.config.max_position_embeddings)
    if max_tokens > context:
        raise TrainingDataError(f"examples of {max_tokens} tokens do not fit: the model reads {context}; see --max-tokens")


def _save(model: Any, tokenizer: Any, out: Path, *, is_adapter: bool) -> Path:
    if is_adapter:
        save_adapter(model, out / "adapter")
        return out / "adapter"
    model.save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    return out / "model"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the status is 1 where there is no model in the end."""
    defaults = ExampleOptions()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="model folder")
    parser.add_argument("--labels", type=Path, required=True, help="queries with candidates and their order, JSON Lines")
    parser.add_argument("--held-out", type=Path, help="labels that are measured with; none of their queries may be trained on")
    parser.add_argument("--format", choices=get_args(ListwiseFormatKind), default="compact", help="what the model is to write")
    parser.add_argument("--min-passages", type=int, default=defaults.min_passages, help="of an example")
    parser.add_argument("--max-passages", type=int, default=defaults.max_passages, help="of an example")
    parser.add_argument("--passage-words", type=int, default=defaults.passage_words, help="as RAG_RERANK__PASSAGE_WORDS")
    parser.add_argument("--max-tokens", type=int, default=defaults.max_tokens, help="of an example; passages are cut to fit")
    parser.add_argument("--shuffled", action="store_true", help="passages in random order, not as the first stage found them")
    parser.add_argument("--full", action="store_true", help="train all weights, not an adapter")
    add_training_arguments(parser)
    given = parser.parse_args(arguments)
    making = ExampleOptions(given.min_passages, given.max_passages, given.shuffled, given.passage_words, given.max_tokens)
    sources = Sources(given.base, given.labels, given.held_out)
    try:
        if given.full and given.start is not None:
            raise ConfigError("--full trains all weights and no adapter: leave out --start")
        adapter = None if given.full else adapter_options(given)
        folder = train(sources, training_options(given), adapter, making, form=given.format)
    except RagServerError as error:
        sys.exit(f"{error.code}: {error}")
    print(folder)


if __name__ == "__main__":
    main()
