"""Checks everything that needs a GPU and prints one table (`make gpu-check`).

python -m eval.gpu_check

The status is 1 where a check fails. What cannot be checked here is skipped, with its reason.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from eval.command import run_command
from eval.gpu_check import needs
from eval.gpu_check.models import check_device, check_engine, check_half_precision, training_checks
from eval.gpu_check.running import Check, as_table, run_checks
from eval.gpu_check.vectors import KINDS, check_kind
from eval.report import as_text
from indexers.faiss_gpu import GpuMode, num_gpus

ROWS = 50_000


def checks(rows: int, folder: Path) -> list[Check]:
    """Return the checks in their order; what they write goes into the folder."""
    modes: tuple[GpuMode, ...] = ("replicated", "sharded") if num_gpus() > 1 else ("replicated",)
    vectors = [
        Check(f"vectors: {kind}, {mode}", (needs.cuda, needs.faiss_gpu), partial(check_kind, kind, mode, rows=rows))
        for mode in modes
        for kind in KINDS
    ]
    return [
        Check("device", (needs.cuda,), check_device),
        *vectors,
        Check("embedding in half precision", (needs.cuda,), check_half_precision),
        *training_checks((needs.cuda, needs.training), folder),
        Check("vLLM answers", (needs.cuda, needs.vllm_gpu), check_engine),
    ]


def _run(given: argparse.Namespace, _: str) -> bool:
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        results = run_checks(checks(given.rows, Path(folder)), lambda name: print(f"checking {name}", file=sys.stderr))
    print(as_text(as_table(results)))
    return all(result.outcome != "failed" for result in results)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS, help="vectors in each index")
    return run_command("gpu_check", parser, _run, arguments)


if __name__ == "__main__":
    sys.exit(main())
