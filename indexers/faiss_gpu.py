"""A copy of a segment on the GPUs, for searches among all chunks; what a GPU cannot do is left to the copy in main memory."""

import threading
from typing import Any, Literal

import faiss
import numpy as np
import structlog

from indexers.faiss_segment import Mask, Near, Segment
from rag_server.types import Vectors

log = structlog.get_logger()

GpuMode = Literal["replicated", "sharded"]
# GPU indexes refuse to look for more.
MAX_K = 2048


class GpuCopy:
    """The vectors of one segment. GPU indexes ignore selectors, so that deleted rows are asked for too and dropped here."""

    def __init__(self, segment: Segment, index: Any) -> None:
        """Use `index`, which lives on the GPUs and has the rows of `segment`."""
        self._segment = segment
        self._index = index
        # FAISS allows one search at a time on a GPU's resources.
        self._lock = threading.Lock()

    @classmethod
    def of(cls, segment: Segment, mode: GpuMode) -> "GpuCopy | None":
        """Copy a segment to all GPUs, or return None if there is none, if it does not fit or if it has no form there."""
        if num_gpus() == 0 or len(segment) == 0:
            return None
        options = faiss.GpuMultipleClonerOptions()
        options.shard = mode == "sharded"
        try:
            return cls(segment, faiss.index_cpu_to_all_gpus(segment.searched_index, co=options))
        except RuntimeError as error:
            log.warning("vectors are searched on the CPU: they cannot be copied to the GPUs", reason=str(error))
            return None

    def search(self, segment: Segment, vectors: Vectors, k: int, dead: Mask) -> list[Near] | None:
        """Return for each row of `vectors` the `k` nearest that are not `dead`, or None if this copy cannot tell."""
        wanted = min(k + int(np.count_nonzero(dead)), len(segment))
        if segment is not self._segment or not 0 < wanted <= MAX_K:
            return None
        with self._lock:
            scores, positions = self._index.search(vectors, wanted)
        found = positions >= 0
        found[found] = ~dead[positions[found]]
        if np.any(np.count_nonzero(found, axis=1) < min(k, len(segment) - int(np.count_nonzero(dead)))):
            return None
        rows = zip(positions, scores, found, strict=True)
        return [(segment.ids[near[alive][:k]], score[alive][:k]) for near, score, alive in rows]


def num_gpus() -> int:
    """Return how many GPUs FAISS sees; the CPU build sees none."""
    return int(faiss.get_num_gpus()) if hasattr(faiss, "index_cpu_to_all_gpus") and hasattr(faiss, "get_num_gpus") else 0


def gpu_status() -> str:
    """Return one sentence on where vectors are searched."""
    if num_gpus():
        return f"FAISS {faiss.__version__}: on {num_gpus()} GPU(s); filtered searches and new vectors on the CPU"
    if not hasattr(faiss, "StandardGpuResources"):
        return f"FAISS {faiss.__version__}: on the CPU: this build of FAISS has no GPU support"
    return f"FAISS {faiss.__version__}: on the CPU: no GPU is visible to FAISS"
