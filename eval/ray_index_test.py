"""Kills `rag-server index --ray` with its whole cluster, calls it again, and looks for documents that are lost or there twice.

python -m eval.ray_index_test --documents 20000 --kills 2 --seed 0
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from eval.command import run_command
from eval.ray_index.check import FAULTS, Fault, check
from eval.ray_index.command import GIVE_UP_S, POLL_S, Command
from eval.ray_index.corpus import write_corpus
from eval.report import Table, as_text
from rag_server import factory
from rag_server.config import load_settings
from rag_server.jobs.batches.on_ray import ray_modules

COLLECTION = "bench"
# From the moment on at which so much is stored.
MAX_DELAY_S_PER_DOCUMENT = 25e-6
GIVE_UP_S_PER_DOCUMENT = 0.5


@dataclass
class Report:
    """What happened. `stored_at_kills` counts the documents that were stored already."""

    num_documents: int
    num_chunks: int = 0
    stored_at_kills: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def run_test(num_documents: int, num_kills: int, seed: int, *, show: Callable[[str], None] = print) -> Report:
    """Index so many documents, killed so often; return what was found."""
    ray_modules()
    chooser, report = random.Random(seed), Report(num_documents)
    # A short name: the path of a socket in it is limited.
    with tempfile.TemporaryDirectory(prefix="rag-ray-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        corpus = write_corpus(folder / "in", num_documents, chooser)
        command = Command(folder, folder / "in", collection=COLLECTION)
        kept: set[int] = set()
        try:
            for number in range(num_kills):
                # Each in its own stretch of the work, and never when nothing or all is done.
                share = (number + chooser.uniform(0.2, 0.8)) / num_kills
                _kill(command, report, int(share * num_documents), chooser.uniform(0, MAX_DELAY_S_PER_DOCUMENT) * num_documents)
                kept |= command.document_keys()
                show(f"kill {number + 1} of {num_kills}: {report.stored_at_kills[-1]:,} documents stored")
            _finish(command, report)
        finally:
            command.kill()
        again = len(kept - command.document_keys())
        report.faults += [("twice", f"{again} documents were stored again that a killed run had stored")] if again else []
        settings = load_settings({}, data_dir=command.data_dir)
        report.num_chunks, faults = check(settings, COLLECTION, corpus, factory.load_embedder(settings))
        report.faults += faults
    return report


def _kill(command: Command, report: Report, num_documents: int, delay_s: float) -> None:
    """Start the command, and kill it some time after so many documents are stored."""
    started = time.monotonic()
    gives_up_at = started + GIVE_UP_S + report.num_documents * GIVE_UP_S_PER_DOCUMENT
    command.start()
    while command.is_running and command.num_documents() < num_documents:
        if time.monotonic() > gives_up_at:
            raise RuntimeError(f"it does not go on: {command.told()}")
        time.sleep(POLL_S)
    time.sleep(delay_s)
    if not command.is_running:
        report.faults.append(("damage", f"it ended before it was killed: {command.told()}"))
    command.kill()
    report.seconds.append(time.monotonic() - started)
    report.stored_at_kills.append(command.num_documents())


def _finish(command: Command, report: Report) -> None:
    started = time.monotonic()
    command.start()
    status = command.wait(GIVE_UP_S + report.num_documents * GIVE_UP_S_PER_DOCUMENT)
    report.seconds.append(time.monotonic() - started)
    if status != 0:
        report.faults.append(("damage", f"it ended with {status}: {command.told()}"))


def print_report(report: Report, command: str) -> None:
    """Print the runs and what was found."""
    counts = Counter(kind for kind, _ in report.faults)
    rows: list[tuple[str, int | str]] = [("documents", f"{report.num_documents:,}"), ("chunks", f"{report.num_chunks:,}")]
    for number, (stored, seconds) in enumerate(zip(report.stored_at_kills, report.seconds, strict=False), start=1):
        rows.append((f"stored at kill {number}, after {seconds:.0f} s", f"{stored:,}"))
    rows.append(("seconds of the last run", round(report.seconds[-1])))
    rows += [(kind, counts[kind]) for kind in FAULTS]
    print(as_text(Table(f"\n{command}", ("figure", "number"), tuple(rows))))
    for kind, message in report.faults[:20]:
        print(f"{kind}: {message}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=20_000, help="how many are indexed")
    parser.add_argument("--kills", type=int, default=2, help="how often the command is killed")
    parser.add_argument("--seed", type=int, default=0, help="another seed writes other documents and kills at other moments")
    sys.exit(run_command("ray_index_test", parser, _run, None))


def _run(arguments: argparse.Namespace, command: str) -> bool:
    report = run_test(arguments.documents, arguments.kills, arguments.seed)
    print_report(report, command)
    return not report.faults


if __name__ == "__main__":
    main()
