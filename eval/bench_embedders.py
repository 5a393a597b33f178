"""Compares ways to compute the packaged embedding model: passages per second, side by side, and nDCG@10 of exact search.

python -m eval.bench_embedders --dataset scifact,nfcorpus
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track

from eval.command import run_command
from eval.embedding.backends import BASELINE, Backend, build_backends
from eval.embedding.quality import corpus_of, ndcg_of
from eval.ranking.datasets import RetrievalDataset, load_beir
from eval.report import Cell, Table, as_text, write_report
from rag_server import factory
from rag_server.config import load_settings

SEED = 7
PORTION = 64
# Slower than this, relative to the baseline, and nothing is won.
WORTHWHILE = 1.1
MAX_LOSS = 0.003


@dataclass(frozen=True, slots=True)
class Took:
    """What a portion took: seconds, and those of all cores together, which say more on a machine that others use too."""

    wall_s: float
    cpu_s: float


def measure_speed(backends: Sequence[Backend], passages: Sequence[str]) -> dict[str, list[Took]]:
    """Return what each portion of the passages took, by backend.

    On each portion the backends take turns, each portion begun by another, so that what else the machine does hits all alike.
    """
    for backend in backends:
        backend.embed(passages[:PORTION])
    took: dict[str, list[Took]] = {backend.name: [] for backend in backends}
    starts = range(0, len(passages), PORTION)
    for number, start in enumerate(track(starts, description="speed", console=Console(stderr=True))):
        first = number % len(backends)
        for backend in [*backends[first:], *backends[:first]]:
            started, cpu_started = time.perf_counter(), time.process_time()
            backend.embed(passages[start : start + PORTION])
            took[backend.name].append(Took(time.perf_counter() - started, time.process_time() - cpu_started))
    return took


def results_table(num_passages: int, took: Mapping[str, Sequence[Took]], ndcg: Mapping[str, Mapping[str, float]]) -> Table:
    """Return a row for each backend; `ndcg` has a value by data set and backend, the difference is to the baseline's."""
    columns = ["embedder", "passages/s", "CPU ms each", "speed ratio"]
    for name in ndcg:
        columns += [f"nDCG@10 {name}", "difference"]
    rows = []
    for backend, portions in took.items():
        ratio = statistics.median(base.wall_s / own.wall_s for base, own in zip(took[BASELINE], portions, strict=True))
        wall_s, cpu_s = sum(one.wall_s for one in portions), sum(one.cpu_s for one in portions)
        cells: list[Cell] = [backend, f"{num_passages / wall_s:.1f}", f"{1000 * cpu_s / num_passages:.1f}", f"{ratio:.2f}"]
        losses = [of_set[BASELINE] - of_set[backend] for of_set in ndcg.values()]
        for of_set, loss in zip(ndcg.values(), losses, strict=True):
            cells += [of_set[backend], 0.0 - loss]
        rows.append((*cells, verdict(backend, ratio, losses)))
    return Table(f"{num_passages} passages, portions in turn", (*columns, "verdict"), tuple(rows))


def verdict(backend: str, ratio: float, losses: Sequence[float]) -> str:
    """Return whether a backend is worth having: faster and, as far as that was measured, as good."""
    if backend == BASELINE:
        return "baseline"
    if ratio < WORTHWHILE:
        return f"not {WORTHWHILE:g} times as fast"
    if not losses:
        return "faster"
    return f"loses {MAX_LOSS:g} or more" if max(losses) >= MAX_LOSS else "faster, as good"


def measure_quality(
    backends: Sequence[Backend], datasets: Sequence[RetrievalDataset], cache: Path
) -> dict[str, dict[str, float]]:
    """Return nDCG@10 by data set and backend; the vectors are kept in `cache` for the next run."""
    return {
        dataset.name: {backend.name: ndcg_of(backend, dataset, cache=cache) for backend in backends} for dataset in datasets
    }


def _passages(datasets: Sequence[RetrievalDataset], number: int) -> list[str]:
    """Return so many passages, drawn from all the data sets together."""
    texts = [text for dataset in datasets for text in corpus_of(dataset).values()]
    return random.Random(SEED).sample(texts, min(number, len(texts)))


def run(given: argparse.Namespace, command: str) -> None:
    """Print the table and write the report."""
    datasets = [load_beir(name) for name in given.dataset.split(",")]
    backends, skipped = build_backends(factory.load_embedder(load_settings({})), given.cache)
    for reason in skipped:
        print(f"left out: {reason}", file=sys.stderr)
    passages = _passages(datasets, given.passages)
    took = measure_speed(backends, passages)
    ndcg = {} if given.speed_only else measure_quality(backends, datasets, given.cache)
    table = results_table(len(passages), took, ndcg)
    print(as_text(table))
    settings = {name: str(value) for name, value in vars(given).items()}
    path = write_report(
        given.out / "embedders",
        title="Ways to compute the embedding model",
        command=command,
        settings=settings,
        tables=[table],
        plots=[],
        notes=[f"left out: {reason}" for reason in skipped],
    )
    print(f"\nreport: {path}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="folders below RAG_EVAL_DATA, separated by commas, such as scifact")
    parser.add_argument("--passages", type=int, default=512, help="passages whose embedding is timed")
    parser.add_argument("--speed-only", action="store_true", help="leave out nDCG@10, for which every passage is embedded")
    parser.add_argument("--cache", type=Path, default=Path("build/embedders"), help="folder for models and vectors")
    parser.add_argument("--out", type=Path, default=Path("reports"), help="folder for the report")
    return run_command("bench_embedders", parser, run, arguments)


if __name__ == "__main__":
    sys.exit(main())
