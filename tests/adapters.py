"""Tiny model folders, and LoRA adapters of them, made of a few numbers."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from rag_server.model_evaluation import Comparison, MeasuredModel, ModelEvaluation, ModelKind

LAYER = "model.layers.0.self_attn.q_proj"
INPUTS, OUTPUTS = 6, 4


def make_model(folder: Path, *, outputs: int = OUTPUTS) -> Path:
    """Write a model of one matrix, (outputs, 6)."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    save_file({f"{LAYER}.weight": np.zeros((outputs, INPUTS), np.float32)}, folder / "model.safetensors")
    return folder


def make_adapter(
    folder: Path,
    *,
    rank: int = 2,
    layer: str = LAYER,
    sizes: tuple[int, int] = (INPUTS, OUTPUTS),
    seed: int = 0,
    **config: object,
) -> Path:
    """Write an adapter of a matrix with so many inputs and outputs, as peft does."""
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": rank, "bias": "none", **config}))
    numbers = np.random.default_rng(seed)
    halves = {"lora_A": (rank, sizes[0]), "lora_B": (sizes[1], rank)}
    tensors = {f"base_model.model.{layer}.{half}.weight": numbers.random(shape, np.float32) for half, shape in halves.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def make_evaluation(
    fingerprint: str, *, kind: ModelKind = "answerer", new: float = 0.5, baseline: float = 0.25
) -> ModelEvaluation:
    """Return an evaluation whose deciding measure has these means."""
    return ModelEvaluation(
        kind=kind,
        new=MeasuredModel(name="trained", fingerprint=fingerprint),
        baseline=MeasuredModel(name="untrained", fingerprint=None),
        dataset="some-questions",
        dataset_hash="0" * 64,
        held_out=0.3,
        command="python -m eval.run_gate",
        comparisons=(
            Comparison(measure="exact match", baseline=0.5, new=0.0, p=1.0, n=40),
            Comparison(measure="token F1", baseline=baseline, new=new, p=0.01, n=40),
        ),
        deciding="token F1",
    )
