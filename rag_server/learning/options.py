"""How long, how fast and with what a model is trained; the same for the three models."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Precision = Literal["auto", "bfloat16", "float32"]


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """A run: what decides its result, and where it is kept.

    `out` takes the checkpoints, the log and the model. A step is one update of the weights, from `batch_size` times
    `accumulation` examples. Precision "auto" is bfloat16 where the device computes in it, else float32. `deepspeed` and `fsdp`
    are handed to the Hugging Face Trainer, for several GPUs. Compiled layers take a minute to begin and then save a third.
    """

    out: Path
    steps: int
    batch_size: int = 1
    accumulation: int = 8
    learning_rate: float = 2e-4
    warmup_share: float = 0.05
    seed: int = 0
    save_every: int = 50
    log_every: int = 5
    precision: Precision = "auto"
    gradient_checkpointing: bool = False
    compiled: bool = False
    deepspeed: Path | None = None
    fsdp: str | None = None


@dataclass(frozen=True, slots=True)
class AdapterOptions:
    """A LoRA adapter. `num_layers` is how many of the last layers get one, None all: the others need no backward pass.

    Dropout takes a third of the time on a CPU. With `start`, the folder of an adapter of the same base, it is that one which is
    trained on, and the others of these options are its own.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    num_layers: int | None = None
    start: Path | None = None
