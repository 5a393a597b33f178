"""What the checks need, and how it is said that it is missing."""

import importlib.metadata

from indexers.faiss_gpu import num_gpus


def cuda() -> str | None:
    """Return what is missing of a GPU that torch computes on."""
    import torch

    return None if torch.cuda.is_available() else "no CUDA device"


def faiss_gpu() -> str | None:
    """Return what is missing of a GPU that FAISS searches on."""
    return None if num_gpus() else "FAISS has no GPU support here (install with EXTRA=gpu)"


def vllm_gpu() -> str | None:
    """Return what is missing of a vLLM that answers on a GPU."""
    try:
        importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        return "vLLM for GPUs is not installed (install with EXTRA=gpu)"
    return None


def training() -> str | None:
    """Return what is missing of the libraries that training takes."""
    try:
        importlib.metadata.version("peft")
    except importlib.metadata.PackageNotFoundError:
        return "peft is not installed"
    return None
