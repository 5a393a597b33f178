"""Learns how many passages a model embeds fastest together on this machine, from passages that are to be embedded anyway."""

import json
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import structlog

from indexers.bfloat16 import is_multiplied
from indexers.snapshot_files import replace_durably

if TYPE_CHECKING:
    import torch

log = structlog.get_logger()

Rows = TypeVar("Rows")

USUAL = 32
# The least first: caches of a processor hold few passages, and a GPU is hardly busy with as few.
SIZES = (8, USUAL, 128)
# Fewer passages are no sample: they may be none of the usual length, and make no batch of the greatest size.
LEAST_PASSAGES = 128
SAMPLES = 4
# Machines are never quite idle; what is hardly faster may be chance.
MARGIN = 1.05


class BatchSize:
    """The usual size, until samples of each have told the fastest one, which is remembered in a file."""

    def __init__(self, machine: str, remembered: Path) -> None:
        """Take what the file told before; `machine` names the model and all that its speed turns on."""
        self._machine = machine
        self._path = remembered
        self._lock = threading.Lock()
        self._rates: dict[int, list[float]] = {size: [] for size in SIZES}
        known = _read(remembered).get(machine, {})
        self._size = known.get("batch_size") if isinstance(known, dict) else None
        if self._size not in SIZES:
            self._size = None

    def embed(self, texts: Sequence[str], encode: Callable[[int], Rows]) -> Rows:
        """Return what `encode` makes of the texts with a batch size; that of many texts at once is a sample."""
        if self._size is not None or len(texts) < LEAST_PASSAGES:
            return encode(self._size or USUAL)
        size = min(SIZES, key=lambda size: len(self._rates[size]))
        started = time.perf_counter()
        rows = encode(size)
        self._note(size, sum(map(len, texts)) / (time.perf_counter() - started))
        return rows

    def _note(self, size: int, characters_per_s: float) -> None:
        with self._lock:
            self._rates[size].append(characters_per_s)
            if self._size is None and min(map(len, self._rates.values())) >= SAMPLES:
                rates = {size: statistics.median(found) for size, found in self._rates.items()}
                self._size = fastest(rates)
                self._remember(self._size, rates)

    def _remember(self, size: int, rates: dict[int, float]) -> None:
        log.info("batch size chosen", machine=self._machine, size=size, characters_per_s=rates)
        # On another machine than the data directory's it is learnt anew each time.
        if not self._path.parent.is_dir():
            return
        told = {"batch_size": size, "characters_per_s": {str(size): round(rate) for size, rate in rates.items()}}
        try:
            replace_durably(self._path, json.dumps(_read(self._path) | {self._machine: told}, indent=2).encode())
        except OSError as error:
            log.warning("the batch size cannot be remembered; it is learnt again", file=str(self._path), reason=str(error))


def fastest(rates: dict[int, float]) -> int:
    """Return the size with the highest rate, the usual one if none is clearly faster."""
    best = max(rates, key=lambda size: rates[size])
    return best if rates[best] > MARGIN * rates[USUAL] else USUAL


def machine_of(device: "torch.device") -> str:
    """Return what computes: the GPU, or the processor's instructions and threads."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    units = "AMX" if is_multiplied(device) else torch.backends.cpu.get_cpu_capability()
    return f"{device.type} ({units}, {torch.get_num_threads()} threads)"


def _read(path: Path) -> dict[str, object]:
    """Return what is remembered, nothing where the file is missing or damaged: all of it can be learnt again."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
