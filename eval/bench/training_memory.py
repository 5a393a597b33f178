"""Measures the memory of one contrastive step of an embedder in a process of its own, which does nothing else.

python -m eval.bench.training_memory BASE cached|direct BATCH   prints bytes as JSON: before, peak
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import torch

from eval.bench.index_memory import peak_bytes
from indexers.llm_embedder import Features, LlmEmbedder
from indexers.llm_embedder_folder import EmbedderOptions
from indexers.training.gradcache import cached_backward
from indexers.training.losses import contrastive_loss
from rag_server.learning.models import load_model, load_tokenizer, with_adapter
from rag_server.learning.options import AdapterOptions

WORDS_PER_TEXT = 40
MINI_BATCH = 8


def measure_memory(base: Path, method: str, batch: int) -> int:
    """Return the bytes that a step adds at most to those of the model."""
    command = [sys.executable, "-m", "eval.bench.training_memory", str(base), method, str(batch)]
    before, peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return int(peak - before)


def run_step(base: Path, method: str, batch: int) -> tuple[int, int]:
    """Take one step over `batch` queries with a passage each; return the resident bytes before it, and their peak."""
    model = with_adapter(load_model(base), AdapterOptions(), seed=0)
    embedder = LlmEmbedder(model, load_tokenizer(base), EmbedderOptions())
    # Numbers of as many digits each: SmolLM's tokens of digits are single ones, and longer texts would take more memory.
    texts = [" ".join(f"word{text:03}{word:02}" for word in range(WORDS_PER_TEXT)) for text in range(2 * batch)]
    rows = embedder.tokens(texts, "passage")
    size = len(rows) if method == "direct" else MINI_BATCH
    parts: list[Features] = [embedder.padded(rows[start : start + size]) for start in range(0, len(rows), size)]
    before = int(psutil.Process().memory_info().rss)
    cached_backward(parts, embedder.vectors, lambda vectors: _loss(vectors, batch))
    return before, peak_bytes()


def _loss(vectors: torch.Tensor, batch: int) -> torch.Tensor:
    nothing = torch.zeros(batch, batch, dtype=torch.bool)
    return contrastive_loss(vectors[:batch], vectors[batch:], torch.arange(batch), nothing, temperature=0.05)


def main(arguments: Sequence[str]) -> None:
    """Run the command line."""
    base, method, batch = arguments
    print(json.dumps(run_step(Path(base), method, int(batch))))


if __name__ == "__main__":
    main(sys.argv[1:])
