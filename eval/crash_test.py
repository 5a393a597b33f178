"""Kills a process that changes a data directory at hundreds of points, and looks for what is lost or half there.

python -m eval.crash_test --points 200 --seed 1
"""

import argparse
import itertools
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from eval.crash import child as crash_child
from eval.crash.check import FAULTS, Expected, Fault, check, recover
from eval.crash.child import STARTING, Kill
from eval.crash.plan import Model
from eval.crash.work import KINDS, Operation, Session, make_small

# How often the same directory is killed, in turn.
KILLS_PER_DIRECTORY = (1, 5, 14)
# About as many as the operations were counted to have.
BOUNDARIES = {
    "ingest": 6,
    "update": 7,
    "delete": 3,
    "attributes": 2,
    "upload": 19,
    "snapshot": 10,
    "compaction": 6,
    "model change": 22,
}
MAX_DELAY_MS = 60
ANSWER_TIMEOUT_S = 120.0
# What the points are counted as besides the operations.
START, BETWEEN = "start", "between operations"
# Forks of a process that has everything imported, but nothing opened: a point costs a fraction of a second.
PROCESSES = multiprocessing.get_context("forkserver")


@dataclass
class Report:
    """What happened at the kill points."""

    points: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[str, Fault]] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, other: "Report") -> None:
        """Take over what happened in another directory."""
        self.points += other.points
        self.faults += other.faults


def run_points(num_points: int, seed: int, *, workers: int = 2, show: Callable[[str], None] = print) -> Report:
    """Kill at so many points and return what was found; directories are worked on side by side, each from its own seed."""
    started, total = time.perf_counter(), Report()
    PROCESSES.set_forkserver_preload(["eval.crash.check", "eval.crash.child"])
    # A fork must not inherit threads that are not there.
    os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
    chains = list(_chains(num_points))
    with ThreadPoolExecutor(workers) as executor:
        reports = executor.map(lambda numbered: run_chain(numbered[1], f"{seed}/{numbered[0]}"), enumerate(chains))
        for number, report in enumerate(reports, start=1):
            total.add(report)
            elapsed_s = time.perf_counter() - started
            done, faults = total.points.total(), len(total.faults)
            show(f"directory {number} of {len(chains)}: {done} of {num_points} points, {faults} faults, {elapsed_s:.0f} s")
    total.seconds = time.perf_counter() - started
    return total


def run_chain(num_points: int, seed: str) -> Report:
    """Kill again and again in one directory."""
    chooser, report = random.Random(seed), Report()
    model = Model(chooser)
    with tempfile.TemporaryDirectory(prefix="rag-crash-", ignore_cleanup_errors=True) as folder:
        for number in range(num_points):
            where, operation = _kill_once(Path(folder), model, chooser)
            report.points[where] += 1
            # Every fourth time the next process finds the directory as the killed one left it.
            is_last = number == num_points - 1
            again = operation if operation is not None and (is_last or chooser.random() < 0.75) else None
            faults = _in_process(_examine, Path(folder), model.expected(), again)
            if again is not None and not faults:
                model.acknowledge()
                faults = _in_process(_examine, Path(folder), model.expected(), None)
            report.faults += [(f"directory {seed}, point {number}, {where}", fault) for fault in faults]
            if faults:
                break
    return report


def print_report(report: Report) -> None:
    """Print the points by operation and what was found."""
    print(f"\n{'killed during':<24}{'points':>8}")
    for where in (START, *KINDS, BETWEEN):
        print(f"{where:<24}{report.points[where]:>8}")
    print(f"{'all':<24}{report.points.total():>8}\n")
    counts = Counter(kind for _, (kind, _) in report.faults)
    for kind in FAULTS:
        print(f"{'acknowledged writes lost' if kind == 'lost' else kind:<24}{counts[kind]:>8}")
    print(f"{'seconds':<24}{report.seconds:>8.0f}")
    for where, (kind, message) in report.faults[:20]:
        print(f"{where}: {kind}: {message}")


def _chains(num_points: int) -> Iterator[int]:
    for length in itertools.cycle(KILLS_PER_DIRECTORY):
        if num_points <= 0:
            return
        yield min(length, num_points)
        num_points -= length


def _kill_once(directory: Path, model: Model, chooser: random.Random) -> tuple[str, Operation | None]:
    """Let a process work on the directory until it is killed; return what it was doing."""
    operations, target = _draw_operations(model, chooser)
    kill = Kill(target, 0)
    delay_ms: float | None = None
    if chooser.random() < 0.3:
        delay_ms = chooser.random() * MAX_DELAY_MS
    else:
        kind = operations[target].kind if target >= 0 else "ingest"
        kill = Kill(target, chooser.randint(1, BOUNDARIES[kind]), after=chooser.random() < 0.5)
    receiving, sending = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=crash_child.run, args=(directory, operations, kill, sending))
    process.start()
    sending.close()
    where = START
    for event, number, _ in _journal(receiving):
        if event == "begin":
            model.begin(operations[number])
            where = operations[number].kind
            if number == target and delay_ms is not None:
                time.sleep(delay_ms / 1000)
                process.kill()
        elif event == "acknowledged":
            model.acknowledge()
            where = BETWEEN
        elif event == "failed":
            raise RuntimeError(f"the working process failed by itself: {number}")
    process.kill()
    process.join()
    return where, model.in_flight


def _draw_operations(model: Model, chooser: random.Random) -> tuple[list[Operation], int]:
    """Return the operations of one process, and at which of them it is to be killed."""
    # Drawn ahead on a copy: the model itself learns of them from the journal only.
    ahead = Model(chooser, dict(model.files), model.model, words=model.words)
    ahead.num_names, ahead.num_words = model.num_names, model.num_words
    operations: list[Operation] = []

    def add(operation: Operation) -> None:
        operations.append(operation)
        ahead.begin(operation)
        ahead.acknowledge()

    if model.in_flight is not None:
        add(model.in_flight)
    for _ in range(chooser.randrange(3)):
        add(ahead.draw_any())
    kind = chooser.choice(KINDS)
    if kind in ("snapshot", "compaction", "model change"):
        # Otherwise there may be nothing to do.
        add(ahead.draw("update"))
    target = len(operations) if chooser.random() < 0.95 else STARTING
    add(ahead.draw(kind))
    add(ahead.draw_any())
    model.num_names, model.num_words = ahead.num_names, ahead.num_words
    return operations, 0 if model.in_flight is not None and chooser.random() < 0.5 else target


def _journal(receiving: Connection) -> Iterator[tuple[str, int, int]]:
    """Yield what the process told before it was killed."""
    try:
        while receiving.poll(ANSWER_TIMEOUT_S):
            yield receiving.recv()
    except (EOFError, ConnectionResetError):
        return
    raise RuntimeError(f"the working process was silent for {ANSWER_TIMEOUT_S:.0f} s")


def _examine(directory: Path, expected: Expected, again: Operation | None) -> list[Fault]:
    """Open the directory and compare; then do again what was interrupted."""
    make_small()
    session = Session(directory)
    try:
        faults = check(session, expected)
        return faults if faults or again is None else recover(session, again)
    finally:
        session.close()


def _in_process(work: Callable[..., list[Fault]], *args: object) -> list[Fault]:
    """Return what a fresh process finds."""
    receiving, sending = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=_answer, args=(sending, work, *args))
    process.start()
    sending.close()
    try:
        found: list[Fault] = receiving.recv() if receiving.poll(ANSWER_TIMEOUT_S) else [("errors", "no answer")]
    except EOFError:
        process.join()
        found = [("errors", f"the checking process ended with {process.exitcode}")]
    process.kill()
    process.join()
    return found


def _answer(sending: Connection, work: Callable[..., list[Fault]], *args: object) -> None:
    sending.send(work(*args))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=200, help="how often a process is killed")
    parser.add_argument("--seed", type=int, default=1, help="another seed kills elsewhere")
    parser.add_argument("--workers", type=int, default=2, help="directories worked on side by side")
    arguments = parser.parse_args()
    report = run_points(arguments.points, arguments.seed, workers=arguments.workers)
    print_report(report)
    sys.exit(1 if report.faults or report.points.total() < arguments.points else 0)


if __name__ == "__main__":
    main()
