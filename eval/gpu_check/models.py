"""Embeds, trains and answers on the GPU."""

import asyncio
import tempfile
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np

from eval.bench.corpus import Corpus
from eval.engine import engine_of
from eval.gpu_check.running import Check, CheckFailedError, Need
from rag_server.config import load_settings

NUM_PASSAGES = 2048
WORDS_PER_PASSAGE = 60
BATCH_SIZE = 256
# Of a vector in half precision and the same in single, at the least.
LEAST_COSINE = 0.999
QUESTION = "Name the capital of France."
MAX_ANSWER_TOKENS = 128
TRAINING_STEPS = 2


def check_device() -> str:
    """Return which GPU there is."""
    import torch

    properties = torch.cuda.get_device_properties(0)
    return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, torch {torch.__version__}"


def check_half_precision() -> str:
    """Embed passages in single and half precision; return how alike the vectors are, and both rates.

    Raises:
        CheckFailedError: A vector differs too much.
    """
    from sentence_transformers import SentenceTransformer

    from indexers.sentence_embedder import packaged_folder

    texts = Corpus(1).texts(NUM_PASSAGES, words=WORDS_PER_PASSAGE)
    model = SentenceTransformer(str(packaged_folder()), device="cuda", local_files_only=True)
    encode = partial(model.encode, batch_size=BATCH_SIZE, normalize_embeddings=True, show_progress_bar=False)
    rows, rates = [], []
    for convert in (model.float, model.half):
        convert()
        encode(texts[:BATCH_SIZE])
        started = time.perf_counter()
        rows.append(np.asarray(encode(texts), dtype=np.float32))
        rates.append(NUM_PASSAGES / (time.perf_counter() - started))
    cosine = float(np.min(np.sum(rows[0] * rows[1], axis=1)))
    if not cosine >= LEAST_COSINE:
        raise CheckFailedError(f"the least cosine of half and single precision is {cosine:.5f}")
    return f"least cosine {cosine:.5f}; {rates[1]:,.0f} passages/s, {rates[0]:,.0f} in single precision"


def check_engine() -> str:
    """Start vLLM with the packaged model and have it answer; return how long that took, and its rate.

    Raises:
        CheckFailedError: The answer is empty.
    """
    return asyncio.run(_answered())


async def _answered() -> str:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        async with engine_of(load_settings({}, data_dir=Path(folder))) as engine:
            up_s = time.perf_counter() - started
            body = {
                "model": await engine.default_model(),
                "messages": [{"role": "user", "content": QUESTION}],
                "max_tokens": MAX_ANSWER_TOKENS,
                "temperature": 0,
            }
            asked = time.perf_counter()
            answer = await engine.chat(body)
            took_s = time.perf_counter() - asked
    text, tokens = answer["choices"][0]["message"]["content"], answer["usage"]["completion_tokens"]
    if not str(text or "").strip():
        raise CheckFailedError("the answer is empty")
    return f"up after {up_s:.0f} s; {tokens / took_s:,.0f} tokens/s for one answer"


def training_checks(needs: tuple[Need, ...], folder: Path) -> list[Check]:
    """Return a check per trainer, which share the packaged model, converted once into the folder."""

    @cache
    def prepared() -> Path:
        from eval.tuning import small
        from rag_server.engines import smollm2_weights

        base = folder / smollm2_weights.MODEL_NAME
        smollm2_weights.convert(base)
        small.make_data(folder)
        return base

    def step(name: str) -> Callable[[], str]:
        def run() -> str:
            from eval.tuning.small import trainings

            trained = trainings(prepared(), folder, steps=TRAINING_STEPS)[name]()
            if not np.isfinite([trained.first_loss, trained.last_loss]).all():
                raise CheckFailedError(f"the loss is {trained.last_loss}")
            return f"loss {trained.first_loss:.3f} to {trained.last_loss:.3f}; {trained.tokens_per_s:,.0f} tokens/s"

        return run

    names = ("answerer", "embedder", "ranker, compact format")
    return [Check(f"training: {name}", needs, step(name)) for name in names]
