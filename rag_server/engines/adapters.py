"""LoRA adapters of the engine's model, looked through before vLLM is told to serve them: a faulty one would keep it down."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from rag_server.errors import UnsupportedModelError

log = structlog.get_logger()

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PICKLED_FILE = "adapter_model.bin"
# Folders of adapters of the packaged SmolLM2.
PACKAGED = Path(__file__).parent / "packaged_adapters"
# The one of them that answers from collections.
PACKAGED_ANSWERER = "smollm2-135m-rag"
# The room that vLLM reserves is of one of these ranks.
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
# Adapters whose requests a GPU computes together; those of others wait for them.
MAX_AT_ONCE = 4
_PREFIX, _SUFFIXES = "base_model.model.", {".lora_A.weight": 1, ".lora_B.weight": 0}

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter that was looked through. `sizes` holds (inputs, outputs) of each matrix that it changes, by its name."""

    rank: int
    sizes: Mapping[str, tuple[int, int]]


def is_adapter(folder: Path) -> bool:
    """Return whether the folder says of itself that it holds an adapter, and no whole model."""
    return (folder / CONFIG_FILE).is_file() and not (folder / "config.json").is_file()


def packaged_adapters() -> dict[str, Path]:
    """Return the folders of the adapters that come with the packaged model, by their names."""
    return {config.parent.name: config.parent for config in sorted(PACKAGED.glob(f"*/{CONFIG_FILE}"))}


def packaged_answerer() -> str | None:
    """Return the name of the packaged adapter that answers from collections, None where there is none."""
    return PACKAGED_ANSWERER if PACKAGED_ANSWERER in packaged_adapters() else None


def read_adapter(folder: Path) -> Adapter:
    """Return what an adapter is, without its weights.

    Raises:
        UnsupportedModelError: It is none that vLLM serves, or it is damaged; the message says why.
    """
    if not (folder / WEIGHTS_FILE).is_file():
        why = f"{PICKLED_FILE} may run programs when it is read" if (folder / PICKLED_FILE).exists() else "it is missing"
        raise UnsupportedModelError(f"{folder} needs its weights in {WEIGHTS_FILE} ({why}): save the adapter as safetensors")
    config_rank = _check_config(folder)
    sizes: dict[str, dict[int, int]] = {}
    ranks = [config_rank]
    for name, shape in _shapes(folder / WEIGHTS_FILE).items():
        suffix = next((suffix for suffix in _SUFFIXES if name.endswith(suffix)), None)
        if suffix is None or not name.startswith(_PREFIX) or len(shape) != 2:
            raise UnsupportedModelError(
                f"{folder} has {name}, which is no LoRA matrix of a linear layer: vLLM does not serve it"
            )
        side = _SUFFIXES[suffix]
        ranks.append(shape[1 - side])
        sizes.setdefault(name.removeprefix(_PREFIX).removesuffix(suffix), {})[side] = shape[side]
    if not sizes or any(len(sides) != len(_SUFFIXES) for sides in sizes.values()):
        raise UnsupportedModelError(f"{folder} has no two LoRA matrices for each layer that it changes: save the adapter again")
    if max(ranks) > RANKS[-1]:
        raise UnsupportedModelError(f"{folder} is of rank {max(ranks)}; vLLM serves ranks up to {RANKS[-1]}")
    return Adapter(max(ranks), {name: (sides[1], sides[0]) for name, sides in sizes.items()})


def check_fits(adapter: Adapter, model: Path) -> None:
    """Make sure that every matrix that the adapter changes is in the model, and of the same size.

    Two models of one architecture cannot be told apart by this.

    Raises:
        UnsupportedModelError: It was made for another model.
    """
    shapes = {name: shape for path in sorted(model.glob("*.safetensors")) for name, shape in _shapes(path).items()}
    # Without the weights as safetensors nothing is known; packed ones have other sizes than the matrices that they stand for.
    if not shapes or "quantization_config" in _object(model / "config.json"):
        return
    for name, (inputs, outputs) in adapter.sizes.items():
        found = shapes.get(f"{name}.weight")
        if found != (outputs, inputs):
            has = "no such matrix" if found is None else " x ".join(map(str, found))
            raise UnsupportedModelError(
                f"the adapter is for another model: {name} is {outputs} x {inputs}, {model.name} has {has}"
            )


def serving_arguments(adapters: Mapping[str, Path], model: Path, *, on_cpu: bool) -> list[str]:
    """Return what vLLM is told to serve the adapters of these names beside the model; those that it cannot are left out."""
    ranks = {}
    for name, folder in adapters.items():
        try:
            adapter = read_adapter(folder)
            check_fits(adapter, model)
        except UnsupportedModelError as error:
            log.error("an adapter is not served", adapter=name, reason=str(error))
        else:
            ranks[name] = adapter.rank
    if not ranks:
        return []
    room = next(rank for rank in RANKS if rank >= max(ranks.values()))
    # As JSON, since a path may hold what ends a name.
    modules = [json.dumps({"name": name, "path": str(adapters[name])}) for name in ranks]
    # On a CPU, vLLM computes requests without an adapter with what is in the last place, which therefore has to stay empty.
    places = len(ranks) + 1 if on_cpu else min(len(ranks), MAX_AT_ONCE)
    return ["--enable-lora", "--max-lora-rank", str(room), "--max-loras", str(places), "--lora-modules", *modules]


def _check_config(folder: Path) -> int:
    """Return the rank that the configuration says."""
    config = _object(folder / CONFIG_FILE)
    if config.get("peft_type") != "LORA":
        raise UnsupportedModelError(f"{folder} is an adapter of type {config.get('peft_type')}; vLLM serves LORA")
    unserved = [name for name in ("use_dora", "modules_to_save", "trainable_token_indices") if config.get(name)]
    if config.get("bias", "none") != "none":
        unserved.append("bias")
    if unserved:
        raise UnsupportedModelError(f"{folder} uses {', '.join(unserved)}, which vLLM does not serve: train without")
    rank = config.get("r")
    if not isinstance(rank, int) or rank < 1:
        raise UnsupportedModelError(f"{folder}/{CONFIG_FILE} names no rank `r`: save the adapter again")
    return rank


def _object(path: Path) -> dict[str, Any]:
    try:
        parsed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnsupportedModelError(f"{path} cannot be read: {error}") from None
    if not isinstance(parsed, dict):
        raise UnsupportedModelError(f"{path} is no JSON object: save the model again")
    return parsed


def _shapes(path: Path) -> Shapes:
    return dict(_read_shapes(path))


def _read_shapes(path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and shape of every tensor of a safetensors file, by its header."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                yield name, tuple(file.get_slice(name).get_shape())
    except (OSError, SafetensorError) as error:
        raise UnsupportedModelError(f"{path} is damaged: {error}") from None
