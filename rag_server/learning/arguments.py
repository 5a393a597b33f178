"""The options that every training command takes."""

import argparse
from pathlib import Path
from typing import get_args

from rag_server.errors import ConfigError
from rag_server.learning.options import AdapterOptions, Precision, TrainingOptions


def add_training_arguments(parser: argparse.ArgumentParser, *, steps: int = 200) -> None:
    """Add the options of a run and of its adapter."""
    run, adapter = TrainingOptions(Path(), steps), AdapterOptions()
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoints and of what comes of them")
    parser.add_argument("--steps", type=int, default=run.steps, help="updates of the weights")
    parser.add_argument("--batch-size", type=int, default=run.batch_size, help="examples at a time")
    parser.add_argument("--accumulation", type=int, default=run.accumulation, help="so many batches make an update")
    parser.add_argument("--learning-rate", type=float, default=run.learning_rate)
    parser.add_argument("--warmup-share", type=float, default=run.warmup_share, help="of the steps, before the rate falls")
    parser.add_argument("--seed", type=int, default=run.seed)
    parser.add_argument("--save-every", type=int, default=run.save_every, help="steps between checkpoints")
    parser.add_argument("--log-every", type=int, default=run.log_every, help="steps between rows of the log")
    parser.add_argument("--precision", choices=get_args(Precision), default=run.precision)
    parser.add_argument("--gradient-checkpointing", action="store_true", help="less memory, a third more time")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="layers run faster, after a minute in which they are compiled (needs a C++ compiler)",
    )
    parser.add_argument("--deepspeed", type=Path, help="settings of DeepSpeed, for several GPUs")
    parser.add_argument("--fsdp", help="settings of FSDP, such as full_shard, for several GPUs")
    parser.add_argument("--rank", type=int, default=adapter.rank, help="of the LoRA adapter")
    parser.add_argument("--alpha", type=int, default=adapter.alpha, help="of the LoRA adapter")
    parser.add_argument("--dropout", type=float, default=adapter.dropout, help="of the LoRA adapter")
    parser.add_argument("--num-layers", type=int, help="how many of the last layers learn; all if left out")
    parser.add_argument("--start", type=Path, help="folder of an adapter of this base to train further, instead of a new one")


def training_options(given: argparse.Namespace) -> TrainingOptions:
    """Return the options of the run."""
    return TrainingOptions(
        out=given.out,
        steps=given.steps,
        batch_size=given.batch_size,
        accumulation=given.accumulation,
        learning_rate=given.learning_rate,
        warmup_share=given.warmup_share,
        seed=given.seed,
        save_every=given.save_every,
        log_every=given.log_every,
        precision=given.precision,
        gradient_checkpointing=given.gradient_checkpointing,
        compiled=given.compile,
        deepspeed=given.deepspeed,
        fsdp=given.fsdp,
    )


def adapter_options(given: argparse.Namespace) -> AdapterOptions:
    """Return the options of the adapter.

    Raises:
        ConfigError: They are those of a new adapter, and one to start from is named too.
    """
    options = AdapterOptions(rank=given.rank, alpha=given.alpha, dropout=given.dropout, num_layers=given.num_layers)
    if given.start is None:
        return options
    if options != AdapterOptions():
        raise ConfigError("--start goes on with an adapter as it is: leave out --rank, --alpha, --dropout and --num-layers")
    return AdapterOptions(start=given.start)
