"""Kills `rag-server batch`, its engine and its Valkey again and again, and looks for rows that are lost or there twice.

python -m eval.batch_crash_test --kills 100 --rows 500 --seed 0
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eval.batch_crash.check import FAULTS, Fault, Output, check_kept, check_store, compare
from eval.batch_crash.command import MODEL
from eval.batch_crash.plan import ENGINE, STARTING, VALKEY, VICTIMS, Kill, draw_kills, is_refused, make_rows
from eval.batch_crash.processes import GIVE_UP_S, POLL_S, Command, Engine
from eval.bench_server import fill_store
from eval.crash.work import HashEmbedder
from eval.report import Table, as_text
from rag_server import factory
from rag_server.commands.batching_rows import digest_of
from rag_server.config import load_settings
from rag_server.types import Access

COLLECTION = "bench"
NUM_CHUNKS = 200
# Of the engine that is killed: ten answers in a second, so that kills come between them.
ANSWER_S = 0.4
AT_ONCE = 4
# Some rows of every job fail.
ENDED_WITH_FAILURES = 1


@dataclass
class Report:
    """What happened."""

    num_rows: int
    kills: Counter[str] = field(default_factory=Counter)
    num_starts: int = 0
    num_results: int = 0
    faults: list[Fault] = field(default_factory=list)
    undisturbed_s: float = 0.0
    seconds: float = 0.0


class Job:
    """A job that is killed and called again. `seen` is what it had written at the kills."""

    def __init__(self, command: Command, engine: Engine, report: Report) -> None:
        self.seen: list[bytes] = []
        self._command = command
        self._engine = engine
        self.report = report

    @property
    def num_answers(self) -> int:
        """How many answers it has written."""
        return self._command.num_answers()

    def kill(self, kill: Kill) -> None:
        """Wait for the moment and kill."""
        if kill.victim == STARTING:
            self._start()
        else:
            self._reach(kill.answers)
        time.sleep(kill.delay_s)
        if kill.victim == ENGINE:
            self._engine.kill()
            self._engine.start(answer_s=ANSWER_S, at_once=AT_ONCE)
        elif kill.victim != VALKEY:
            self._kill_process()
        elif not self._command.kill_valkey():
            return
        self.report.kills[kill.victim] += 1

    def end(self) -> None:
        """Let it come to its end."""
        if not self._command.is_running:
            self._start()
        status = self._command.wait(GIVE_UP_S + self.report.num_rows * ANSWER_S)
        if status != ENDED_WITH_FAILURES:
            self.report.faults.append(("status", f"the command ended with {status}: {self._command.log.read_text()[-2000:]}"))

    def _kill_process(self) -> None:
        # It may have come to its end just before.
        if not self._command.is_running:
            self._start()
        self._command.kill()
        self.seen.append(self._command.written())

    def _reach(self, num_answers: int) -> None:
        gives_up_at = time.monotonic() + GIVE_UP_S
        if not self._command.is_running:
            self._start()
        while self._command.is_running and self._command.num_answers() < num_answers:
            if time.monotonic() > gives_up_at:
                raise self._command.stuck()
            time.sleep(POLL_S)

    def _start(self) -> None:
        self.report.num_starts += 1
        self._command.start()


def run_test(num_kills: int, num_rows: int, seed: int, *, show: Callable[[str], None] = print) -> Report:
    """Run a job undisturbed, and the same one with so many kills; return what was found."""
    chooser, report, engine = random.Random(seed), Report(num_rows), Engine()
    # A short name: the path of a socket in it is limited.
    with tempfile.TemporaryDirectory(prefix="rag-kill-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        fill_store(folder / "data", HashEmbedder(MODEL), NUM_CHUNKS)
        source = folder / "in.jsonl"
        rows = make_rows(num_rows, chooser)
        source.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        kills = draw_kills(num_kills, sum(not is_refused(row) for row in rows), chooser)
        calm, killed = (
            Command(folder, source, folder / f"{out}.jsonl", collection=COLLECTION, engine_url=engine.url)
            for out in ("undisturbed", "killed")
        )
        try:
            _run_undisturbed(calm, engine, report)
            seen = _run_killed(Job(killed, engine, report), list(kills), show)
        finally:
            for process in (killed, calm, engine):
                process.kill()
        _examine(report, folder, source, (calm.out, killed.out), seen)
    return report


def _run_undisturbed(command: Command, engine: Engine, report: Report) -> None:
    started = time.monotonic()
    engine.start()
    command.start()
    if command.wait(GIVE_UP_S + report.num_rows) != ENDED_WITH_FAILURES:
        raise RuntimeError(f"the undisturbed job failed: {command.log.read_text()[-2000:]}")
    report.undisturbed_s = time.monotonic() - started
    engine.kill()
    engine.start(answer_s=ANSWER_S, at_once=AT_ONCE)


def _run_killed(job: Job, kills: Sequence[Kill], show: Callable[[str], None]) -> list[bytes]:
    started = time.monotonic()
    for number, kill in enumerate(kills, start=1):
        job.kill(kill)
        show(f"kill {number} of {len(kills)}: {kill.victim}, {job.num_answers} answers, {time.monotonic() - started:.0f} s")
    job.end()
    job.report.seconds = time.monotonic() - started
    return job.seen


def _examine(report: Report, folder: Path, source: Path, outs: tuple[Path, Path], seen: list[bytes]) -> None:
    undisturbed, found = map(Output.of, outs)
    report.num_results = sum(1 for _ in found.rows())
    report.faults += compare(found, undisturbed) + check_kept(found.answers, seen)
    store = factory.open_store(load_settings({}, data_dir=folder / "data"))
    batch = store.batches.find(digest_of(source, outs[1].resolve(), COLLECTION, None), Access())
    if batch is None:
        report.faults.append(("store", "the batch is not there"))
    else:
        report.faults += check_store(store.batches, batch, report.num_rows)
    store.database.close()


def print_report(report: Report) -> None:
    """Print the kills by victim and what was found."""
    counts = Counter(kind for kind, _ in report.faults)
    rows: list[tuple[str, int]] = [(f"kills of {victim}", report.kills[victim]) for victim in VICTIMS]
    rows += [("kills, all", report.kills.total()), ("starts of the process", report.num_starts)]
    rows += [("rows", report.num_rows), ("results", report.num_results), *((kind, counts[kind]) for kind in FAULTS)]
    rows += [("seconds, undisturbed with a fast engine", round(report.undisturbed_s)), ("seconds", round(report.seconds))]
    print(as_text(Table("\nA killed job beside an undisturbed one", ("figure", "number"), tuple(rows))))
    for kind, message in report.faults[:20]:
        print(f"{kind}: {message}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="how often something is killed")
    parser.add_argument("--rows", type=int, default=500, help="rows of the job")
    parser.add_argument("--seed", type=int, default=0, help="another seed kills at other points")
    arguments = parser.parse_args()
    report = run_test(arguments.kills, arguments.rows, arguments.seed)
    print_report(report)
    complete = report.kills.total() == arguments.kills and report.num_results == arguments.rows
    sys.exit(1 if report.faults or not complete else 0)


if __name__ == "__main__":
    main()
