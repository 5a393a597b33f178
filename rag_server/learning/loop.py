"""The training loop: the Hugging Face Trainer with a loss of ours, which resumes, stops at a loss that is no number, and tells.

What is trained on, with what loss and collator, is the caller's; see the packages beside this one.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_server.errors import OutOfMemoryError, TrainingDataError, TrainingDivergedError
from rag_server.learning.length_groups import LengthGroups
from rag_server.learning.models import compile_layers
from rag_server.learning.options import TrainingOptions

if TYPE_CHECKING:
    import torch
    from transformers import TrainingArguments

Batch = dict[str, Any]
# Takes the model and what the collator made of some examples; returns the loss, and what is to be told beside it.
Loss = Callable[[Any, Batch], tuple["torch.Tensor", Mapping[str, float]]]
Collate = Callable[[Sequence[Any]], Batch]

RUN_FILE = "run.json"
LOG_FILE = "log.jsonl"
# A run that goes on may be given these anew. With other steps the learning rate falls to nothing at the new end.
FREE = ("out", "steps", "save_every", "log_every")


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """What a run came to: a row of its log per `log_every` steps, and the tokens that it read in a second of this session."""

    log: tuple[Mapping[str, float], ...]
    tokens_per_s: float


def run_training(
    model: Any,
    examples: Sequence[Any],
    *,
    loss: Loss,
    collate: Collate,
    options: TrainingOptions,
    what: str,
    lengths: Sequence[int] | None = None,
) -> TrainingRun:
    """Train the model in place; go on from the last checkpoint in `options.out` if there is one of the same run.

    Args:
        model: A PreTrainedModel, or a PeftModel of which the adapter alone is trained and saved.
        examples: As the collator takes them; each epoch sees them in another order.
        loss: Called once for each `options.batch_size` examples.
        collate: Makes a batch; its tensors are moved to the model's device.
        options: How long and how fast.
        what: Names everything else that decides the result (data, base model, options of the loss).
        lengths: Tokens of each example, if a batch is to hold examples of about one length.

    Raises:
        TrainingDataError: There is no example, or the folder holds another run.
        TrainingDivergedError: The loss is no number.
        OutOfMemoryError: A step does not fit.
    """
    import torch

    if not examples:
        raise TrainingDataError("there is nothing to train on")
    _claim(options, what)
    if options.compiled:
        compile_layers(model)
    trainer = _trainer(model, examples, loss, collate, options, lengths)
    checkpoint = last_checkpoint(options.out)
    started = time.perf_counter()
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemoryError(
            f"a step of {options.batch_size} examples does not fit: take a smaller batch with more accumulation, shorter texts "
            f"or gradient checkpointing ({error})"
        ) from error
    seconds = time.perf_counter() - started
    log = tuple(row for row in trainer.state.log_history if "loss" in row)
    _write_log(options.out, log)
    return TrainingRun(log, trainer.num_tokens / seconds)


def _claim(options: TrainingOptions, what: str) -> None:
    """Write down whose run the folder holds, or make sure that it is this one's."""
    decisive = {name: value for name, value in asdict(options).items() if name not in FREE}
    run = hashlib.sha256(json.dumps([decisive, what], default=str, sort_keys=True).encode()).hexdigest()
    path = options.out / RUN_FILE
    if path.is_file():
        if json.loads(path.read_text())["run"] != run:
            raise TrainingDataError(f"{options.out} holds another run: name another folder, or remove it to begin anew")
        return
    options.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"run": run, "options": decisive, "what": what}, default=str, indent=2) + "\n")


def last_checkpoint(out: Path) -> Path | None:
    """Return the newest checkpoint that was written to its end: the Trainer writes its state last."""
    found = [path for path in out.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _trainer(
    model: Any,
    examples: Sequence[Any],
    loss: Loss,
    collate: Collate,
    options: TrainingOptions,
    lengths: Sequence[int] | None,
) -> Any:
    from transformers import ProgressCallback, Trainer

    class LossTrainer(Trainer):
        """Computes our loss, and counts the tokens."""

        num_tokens = 0

        def compute_loss(self, model: Any, inputs: Batch, *_: Any, **__: Any) -> Any:
            self.num_tokens += int(inputs.pop("num_tokens"))
            value, told = loss(model, inputs)
            if not value.isfinite():
                raise TrainingDivergedError(
                    f"the loss is {value.item()} at step {self.state.global_step}: lower the learning rate; what was learned "
                    f"up to the last checkpoint is in {options.out}"
                )
            if told and self.state.global_step % options.log_every == 0:
                self._told = dict(told)
            return value

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            if lengths is None:
                return super()._get_train_sampler(train_dataset)
            return LengthGroups(lengths, options.batch_size, seed=options.seed)

        def log(self, logs: dict[str, float], *arguments: Any, **named: Any) -> None:
            if "loss" in logs:
                logs = {**logs, **getattr(self, "_told", {})}
            super().log(logs, *arguments, **named)

    class Bar(ProgressCallback):
        """Shows the loss beside the bar, and prints nothing: what a command prints is its result."""

        training_bar: Any

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if self.training_bar is not None and "loss" in (logs or {}):
                self.training_bar.set_postfix(loss=logs["loss"])

    trainer = LossTrainer(model=model, args=_arguments(model, options), train_dataset=examples, data_collator=collate)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(Bar)
    # Our losses are means: the Trainer must divide them by the accumulation, which it does not where it finds `labels`.
    trainer.model_accepts_loss_kwargs = False
    return trainer


def _arguments(model: Any, options: TrainingOptions) -> "TrainingArguments":
    import torch
    from transformers import TrainingArguments

    # Weights that learn in single precision are multiplied in bfloat16; adapters keep their own precision beside frozen ones.
    return TrainingArguments(
        output_dir=str(options.out),
        max_steps=options.steps,
        per_device_train_batch_size=options.batch_size,
        gradient_accumulation_steps=options.accumulation,
        learning_rate=options.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=round(options.warmup_share * options.steps),
        seed=options.seed,
        save_steps=options.save_every,
        save_total_limit=2,
        logging_steps=options.log_every,
        logging_nan_inf_filter=False,
        gradient_checkpointing=options.gradient_checkpointing,
        deepspeed=None if options.deepspeed is None else str(options.deepspeed),
        fsdp=options.fsdp or None,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        report_to="none",
    )


def _write_log(out: Path, log: Sequence[Mapping[str, float]]) -> None:
    (out / LOG_FILE).write_text("".join(f"{json.dumps(row)}\n" for row in log))
