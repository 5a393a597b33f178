"""The ways to keep vectors: which index, in whose memory, and what it takes per passage and per segment."""

import math
from dataclasses import dataclass
from typing import Literal

from eval.scaling import published
from eval.scaling.constants import TOP, Constants
from eval.scaling.growth import index_growth

Place = Literal["faiss", "milvus"]
FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Option:
    """An index: in every server (faiss), or in a cluster of its own (milvus)."""

    place: Place
    kind: str

    @property
    def label(self) -> str:
        """The name in tables."""
        return f"{'FAISS' if self.place == 'faiss' else 'Milvus'} {self.kind}"


OPTIONS = (
    Option("faiss", "flat"),
    Option("faiss", "hnsw"),
    Option("faiss", "ivf"),
    Option("faiss", "ivf_sq8"),
    Option("faiss", "ivf_rabitq"),
    Option("milvus", "hnsw"),
    Option("milvus", "ivf"),
    Option("milvus", "ivf_sq8"),
    Option("milvus", "ivf_rabitq"),
    Option("milvus", "ivf_pq"),
    Option("milvus", "diskann"),
)


@dataclass(frozen=True, slots=True)
class Profile:
    """One index of so many passages, whole, cut into segments as its place cuts it."""

    segments: int
    resident_bytes: float
    disk_bytes: float
    # Of one core for one segment; the quantiles from 0 to 100 per cent, and their mean.
    segment_ms: tuple[float, ...]
    mean_segment_ms: float
    # Within one segment.
    found_by_rank: tuple[float, ...]
    # None: not known.
    build_core_s: float | None
    # How many times larger a segment is than the largest that was measured; None: taken from others.
    extrapolated: float | None


def profile(option: Option, passages: int, constants: Constants) -> Profile:
    """Return what an index of so many passages takes. What Milvus takes for a kind is what FAISS took for the same kind."""
    raw = FLOAT_BYTES * constants.dimension
    if option.kind == "diskann":
        return _diskann(passages, raw, constants)
    segments = 1 if option.place == "faiss" else math.ceil(passages * raw / published.SEGMENT_BYTES.value)
    rows = passages / segments
    growth = index_growth(constants, option.kind)
    mean_ms = growth.mean_ms.at(rows)
    return Profile(
        segments=segments,
        resident_bytes=segments * growth.resident_bytes.at(rows),
        disk_bytes=segments * growth.disk_bytes.at(rows),
        segment_ms=tuple(mean_ms * relative for relative in growth.shape),
        mean_segment_ms=mean_ms,
        found_by_rank=growth.found(rows),
        build_core_s=segments * growth.build_core_s.at(rows),
        extrapolated=rows / growth.largest_measured,
    )


def _diskann(passages: int, raw: int, constants: Constants) -> Profile:
    """Codes and cached nodes in memory, whole nodes in sectors on the disk; the spread of the times is HNSW's."""
    segments = math.ceil(passages * raw / published.DISK_SEGMENT_BYTES.value)
    in_memory = published.DISKANN_CODES.value + published.DISKANN_CACHE.value
    mean_ms = published.DISKANN_CORE_MS.value
    return Profile(
        segments=segments,
        resident_bytes=passages * raw * in_memory,
        disk_bytes=passages * diskann_disk_bytes(raw),
        segment_ms=tuple(mean_ms * relative for relative in index_growth(constants, "hnsw").shape),
        mean_segment_ms=mean_ms,
        found_by_rank=(published.DISKANN_RECALL.value,) * TOP,
        build_core_s=None,
        extrapolated=None,
    )


def diskann_disk_bytes(raw: int) -> float:
    """Return the bytes on the disk per node: its vector, the number of its neighbours, and their numbers of 4 bytes each."""
    node = raw + 4 * (1 + published.DISKANN_DEGREE.value)
    sector = published.DISKANN_SECTOR.value
    return sector / (sector // node) if node <= sector else math.ceil(node / sector) * sector
