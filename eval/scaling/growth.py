"""How what was measured at a few sizes grows to sizes that were not: bytes, build time, search time and recall of an index."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from eval.scaling.constants import TOP, Constants, LexicalFigures


@dataclass(frozen=True, slots=True)
class Line:
    """`at(x) = fixed + slope * scale(x)`, never below zero."""

    fixed: float
    slope: float
    scale: Callable[[float], float]

    def at(self, x: float) -> float:
        """Return the value at `x`."""
        return max(0.0, self.fixed + self.slope * self.scale(x))


def proportional(x: float) -> float:
    """Return `x`: what grows with each row."""
    return x


def fitted(xs: Sequence[float], ys: Sequence[float], scale: Callable[[float], float]) -> Line:
    """Return the line of least squares that never falls; one point, or points that fall, give a constant, their mean."""
    scaled = np.array([scale(x) for x in xs])
    values = np.array(ys, dtype=float)
    spread = scaled - scaled.mean()
    slope = float(spread @ values / (spread @ spread)) if len(set(xs)) > 1 else 0.0
    if slope <= 0:
        return Line(float(values.mean()), 0.0, scale)
    return Line(float(values.mean() - slope * scaled.mean()), slope, scale)


@dataclass(frozen=True, slots=True)
class IndexGrowth:
    """What one kind of index takes and finds with any number of rows."""

    resident_bytes: Line
    disk_bytes: Line
    build_core_s: Line
    mean_ms: Line
    # What is missed; it grows with the logarithm of the rows.
    missed: Line
    found_by_rank: tuple[float, ...]
    # Of a search, relative to its mean; 0 to 100 per cent.
    shape: tuple[float, ...]
    largest_measured: int

    def recall(self, rows: float) -> float:
        """Return the share of the ten nearest that is found."""
        return max(0.0, 1 - self.missed.at(rows))

    def found(self, rows: float) -> tuple[float, ...]:
        """Return the share found by rank: as measured with most rows, lowered as the recall falls beyond that."""
        measured = sum(self.found_by_rank) / TOP
        factor = min(1.0, self.recall(rows) / measured) if measured else 0.0
        return tuple(share * factor for share in self.found_by_rank)


def index_growth(constants: Constants, kind: str) -> IndexGrowth:
    """Return how a kind grows. A graph's search takes longer with the logarithm of the rows, the others' with the rows."""
    measured = constants.of_kind(kind)
    rows = [figures.rows for figures in measured]
    most = measured[-1]
    search = math.log2 if kind == "hnsw" else proportional
    build = (lambda x: x * math.log2(x)) if kind == "hnsw" else (lambda x: x**1.5)
    if kind == "flat":
        build = proportional
    return IndexGrowth(
        resident_bytes=fitted(rows, [figures.resident_bytes for figures in measured], proportional),
        disk_bytes=fitted(rows, [figures.disk_bytes for figures in measured], proportional),
        build_core_s=fitted(rows, [figures.build_core_s for figures in measured], build),
        mean_ms=fitted(rows, [figures.mean_ms for figures in measured], search),
        missed=fitted(rows, [1 - figures.recall for figures in measured], math.log10),
        found_by_rank=most.found_by_rank,
        shape=tuple(value / most.mean_ms for value in most.latency_ms),
        largest_measured=most.rows,
    )


def lexical_growth(measured: Sequence[LexicalFigures]) -> Line:
    """Return the mean milliseconds of a BM25 search by the number of chunks."""
    return fitted([figures.rows for figures in measured], [figures.mean_ms for figures in measured], proportional)
