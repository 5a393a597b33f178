"""Measures training beside a bare loop, encoding beside the bare model, and the memory of GradCache (`make bench-training`).

python -m eval.bench_training --base FOLDER
"""

import argparse
import functools
import os
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from eval.bench.tools import Figure, print_figures
from eval.bench.training_memory import MINI_BATCH, measure_memory
from eval.command import run_command
from indexers.llm_embedder import BATCH_TOKENS, LlmEmbedder, batches_by_length
from indexers.llm_embedder_folder import EmbedderOptions
from rag_server.learning.loop import run_training
from rag_server.learning.models import load_model, load_tokenizer, with_adapter
from rag_server.learning.options import AdapterOptions, TrainingOptions
from rag_server.training.answer_loss import answer_loss, collate
from rag_server.training.examples import TokenizedExample

SEED = 7
ANSWER_TOKENS = 12
PROMPT_TOKENS = (200, 800)
WORDS_PER_TEXT = (20, 200)
# A whole step of more pairs does not fit into 24 GB.
MEMORY_BATCHES = {"direct": (8, 16), "cached": (8, 64)}
# Each side is measured so often, in turn: what else the machine does then hits both.
ROUNDS = 3


def measure_training(base: Path, steps: int) -> list[Figure]:
    """Return the tokens per second of the answerer's training, and of a loop that does nothing but the same steps."""
    model = with_adapter(load_model(base), AdapterOptions(), seed=SEED)
    chooser = random.Random(SEED)
    examples = [_example(chooser) for _ in range(steps)]
    num_tokens = sum(len(example.token_ids) for example in examples)
    make = functools.partial(collate, padding_id=0)
    _bare_loop(model, [make([example]) for example in examples[:2]])
    ours, bare = 0.0, 0.0
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            # A checkpoint at the end alone, as in a run that is not interrupted; it counts as part of training.
            options = TrainingOptions(Path(folder) / "run", steps, accumulation=1, save_every=steps, log_every=steps)
            ours += (
                num_tokens
                / run_training(model, examples, loss=answer_loss, collate=make, options=options, what="bench").tokens_per_s
            )
        bare += _seconds(functools.partial(_bare_loop, model, [make([example]) for example in examples]))
    total = ROUNDS * num_tokens
    return [
        Figure("training the answerer", total / ours, "tokens/s"),
        Figure("a bare loop of the same steps", total / bare, "tokens/s"),
        Figure("training, relative to the bare loop", bare / ours, "x", 0.9, at_least=True),
    ]


def measure_encoding(base: Path, num_texts: int) -> list[Figure]:
    """Return the texts per second of the LLM embedder, from text to vector, and of its model alone on ready tokens."""
    embedder = LlmEmbedder(load_model(base), load_tokenizer(base), EmbedderOptions())
    chooser = random.Random(SEED)
    texts = [
        " ".join(f"word{chooser.randrange(999)}" for _ in range(chooser.randint(*WORDS_PER_TEXT))) for _ in range(num_texts)
    ]
    rows = embedder.tokens(texts, "passage")
    batches = batches_by_length([len(row.ids) for row in rows], BATCH_TOKENS)
    padded = [embedder.padded([rows[place] for place in batch]) for batch in batches]
    bare_model = embedder.language_model.base_model
    _bare_model(bare_model, padded[-1:])
    ours = bare = 0.0
    for _ in range(ROUNDS):
        ours += _seconds(lambda: embedder.encode(texts, "passage"))
        bare += _seconds(lambda: _bare_model(bare_model, padded))
    return [
        Figure("encoding with the LLM embedder", ROUNDS * num_texts / ours, "texts/s"),
        Figure("its model alone on the same tokens", ROUNDS * num_texts / bare, "texts/s"),
        Figure("encoding, relative to the bare model", bare / ours, "x", 0.9, at_least=True),
    ]


def measure_gradcache(base: Path) -> list[Figure]:
    """Return what a contrastive step adds to the memory of the model, whole and with GradCache, for two sizes of batches."""
    figures = []
    for method, name in (("direct", "a whole step"), ("cached", f"with GradCache, {MINI_BATCH} texts at a time")):
        batches = MEMORY_BATCHES[method]
        small, large = (measure_memory(base, method, batch) for batch in batches)
        for batch, value in zip(batches, (small, large), strict=True):
            figures.append(Figure(f"memory of {batch} pairs, {name}", value / 1e6, "MB"))
        bound = 1.2 if method == "cached" else None
        figures.append(Figure(f"{batches[1]} pairs relative to {batches[0]}, {name}", large / small, "x", bound))
    return figures


def _bare_loop(model: Any, batches: Sequence[dict[str, Any]]) -> None:
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=2e-4)
    model.train()
    for batch in batches:
        loss, _ = answer_loss(model, batch)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()


def _bare_model(model: Any, padded: Sequence[dict[str, torch.Tensor]]) -> None:
    with torch.inference_mode():
        for features in padded:
            model(input_ids=features["input_ids"], attention_mask=features["attention_mask"], use_cache=False, is_causal=False)


def _example(chooser: random.Random) -> TokenizedExample:
    num_prompt = chooser.randint(*PROMPT_TOKENS)
    return TokenizedExample(tuple(chooser.randrange(1000, 40000) for _ in range(num_prompt + ANSWER_TOKENS)), num_prompt)


def _seconds(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def _measure(given: argparse.Namespace, _: str) -> bool:
    # What a process holds is more than what it uses: the C library's own allocator keeps pieces that fit nothing.
    allocator = "tcmalloc" if "tcmalloc" in os.environ.get("LD_PRELOAD", "") else "the C library's allocator"
    print(f"{given.steps} steps, {given.texts} texts, {ROUNDS} rounds in turn, {os.cpu_count()} cores, {allocator}\n")
    print_figures(measure_training(given.base, given.steps))
    print_figures(measure_encoding(given.base, given.texts))
    print_figures(measure_gradcache(given.base))
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="model folder")
    parser.add_argument("--steps", type=int, default=24, help="of one example each")
    parser.add_argument("--texts", type=int, default=200, help="to encode")
    return run_command("bench_training", parser, _measure, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
