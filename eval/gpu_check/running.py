"""Runs checks one after the other; each passes with a figure, fails with a reason, or is skipped where it cannot be run."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from eval.report import Table

Outcome = Literal["passed", "failed", "skipped"]
# Says what is missing for a check, None if nothing is.
Need = Callable[[], str | None]


class CheckFailedError(Exception):
    """What was checked is not as it should be; the message says how it is."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at: `run` returns a figure, or raises."""

    name: str
    needs: tuple[Need, ...]
    run: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Result:
    """How a check went; `detail` is its figure or the reason."""

    name: str
    outcome: Outcome
    detail: str
    seconds: float


def run_checks(checks: Sequence[Check], show: Callable[[str], None]) -> list[Result]:
    """Run all of the checks, whatever becomes of one."""
    results = []
    for check in checks:
        show(check.name)
        results.append(_result(check))
    return results


def _result(check: Check) -> Result:
    missing = next((reason for need in check.needs if (reason := need()) is not None), None)
    if missing is not None:
        return Result(check.name, "skipped", missing, 0.0)
    started = time.perf_counter()
    outcome: Outcome = "passed"
    try:
        detail = check.run()
    except CheckFailedError as error:
        outcome, detail = "failed", str(error)
    # A driver, a library or a trainer that ends its process: the other checks still say something.
    except (Exception, SystemExit) as error:  # noqa: BLE001
        outcome, detail = "failed", f"{type(error).__name__}: {error}"
    return Result(check.name, outcome, detail, time.perf_counter() - started)


def as_table(results: Sequence[Result]) -> Table:
    """Return the table of all checks."""
    rows = []
    for result in results:
        shown = f"skipped: {result.detail}" if result.outcome == "skipped" else result.outcome
        figure = None if result.outcome == "skipped" else result.detail
        rows.append((result.name, shown, figure, f"{result.seconds:.1f}"))
    return Table("What needs a GPU", ("check", "result", "figure", "seconds"), tuple(rows))
