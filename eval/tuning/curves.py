"""Draws what the logs of training runs tell, step by step.

python -m eval.tuning.curves RUN... --out curve.png
"""

import argparse
import json
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from eval.command import run_command
from eval.report import Plot, Series, draw
from rag_server.errors import TrainingDataError
from rag_server.learning.record import RECORD_FILE

# What a step tells is of a handful of examples: each point is mostly what came before it.
SMOOTHING = 0.8


def curve(run: Path, value: str) -> Series:
    """Return the value over the steps of a run, smoothed; the series is named by the run's folder.

    Raises:
        TrainingDataError: The folder holds no run that was finished, or its log does not tell the value.
    """
    try:
        record = json.loads((run / RECORD_FILE).read_text())
        rows = [(row["step"], row[value]) for row in record["log"]]
    except (OSError, ValueError, KeyError) as error:
        raise TrainingDataError(f"{run} has no log of a finished run that tells {value!r} ({error!r})") from error
    smooth = accumulate((told for _, told in rows), lambda before, now: SMOOTHING * before + (1 - SMOOTHING) * now)
    return Series(run.name, tuple(step for step, _ in rows), tuple(smooth))


def _draw(given: argparse.Namespace, _: str) -> bool:
    series = tuple(curve(run, given.value) for run in given.run)
    draw(given.out, Plot(given.out.name, given.title, "step", f"{given.value}, smoothed", series))
    print(given.out)
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="+", help="folder that a training command was given as --out")
    parser.add_argument("--value", default="loss", help="what is drawn, by its name in training.json (%(default)s if left out)")
    parser.add_argument("--title", default="", help="above the drawing")
    parser.add_argument("--out", type=Path, required=True, help="PNG file")
    return run_command("tuning.curves", parser, _draw, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
