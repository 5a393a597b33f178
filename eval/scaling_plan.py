"""Plans for up to a billion passages: machines, memory, cost, recall and the time of a search, from measured constants.

python -m eval.scaling_plan
python -m eval.scaling_plan --passages 1000000000 --searches-per-s 200 --machine-price 1.1
RAG_EVAL_DATA=FOLDER python -m eval.scaling_plan --measure

The first two compute, in seconds; `--measure` measures the constants on this machine anew, in minutes.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from eval.command import run_command
from eval.qa.arguments import at_least_one
from eval.report import Table, as_text, write_report
from eval.scaling import tables
from eval.scaling.constants import PACKAGED, Constants, read_constants
from eval.scaling.fleet import GB, Demand, Machine, Prices, Targets
from eval.scaling.page import update_page
from eval.scaling.plan import SIMULATED_SEARCHES, Outcome, chosen, outcomes

SIZES = (10**6, 10**7, 10**8, 10**9)
NOTES = (
    "Measured figures are from one machine (see settings.json); what is published or assumed has a table of its own.",
    "Prices are round examples of 2026-11-27, looked up nowhere: give your own as arguments.",
    "What Milvus takes for a kind of index is what FAISS took for the same kind, in segments of the size that Milvus cuts.",
    "Times are simulated: searches arrive at random at the busiest rate, and a machine works on them in their order.",
    "In them are the query's embedding and the server's own work, as constants; the writing of an answer is not.",
    "Verdict memory: it does not fit into a server while it is rebuilt; time: too slow, or too many searches a second;",
    "recall: it finds too little; unmeasured: too far beyond what was measured. What rests on others' figures is not chosen.",
)


def run(arguments: argparse.Namespace, command: str) -> bool:
    """Measure if told to, then plan and report; return whether each size has a plan."""
    if arguments.measure:
        measure_into(arguments.constants, command)
    constants = read_constants(arguments.constants)
    prices = _prices(arguments)
    candidates = {passages: _candidates(passages, constants, prices, arguments) for passages in arguments.passages}
    found = {passages: chosen(options) for passages, options in candidates.items()}
    plans = {passages: plan for passages, plan in found.items() if plan is not None}
    shown = all_tables(candidates, plans, constants, prices)
    print(*map(as_text, shown), sep="\n\n")
    plots = tables.plots(plans, constants)
    measured = {"date": constants.date, "machine": constants.machine, "command": constants.command}
    path = write_report(
        arguments.out / "scaling",
        title="Plan to a billion passages",
        command=command,
        settings={**vars(arguments), "measured": measured},
        tables=shown,
        plots=plots,
        notes=NOTES,
    )
    print(f"written: {path}")
    if arguments.update is not None:
        update_page(arguments.update, shown, plots)
    for passages in arguments.passages:
        if passages not in plans:
            print(f"no option is good and fast enough for {tables.count(passages)} passages", file=sys.stderr)
    return len(plans) == len(arguments.passages)


def _candidates(passages: int, constants: Constants, prices: Prices, arguments: argparse.Namespace) -> list[Outcome]:
    demand = Demand(passages, arguments.searches_per_s, arguments.answers_per_s)
    return outcomes(demand, constants, prices, _targets(arguments), seed=arguments.seed, searches=arguments.simulated)


def all_tables(
    candidates: dict[int, list[Outcome]], plans: dict[int, Outcome], constants: Constants, prices: Prices
) -> list[Table]:
    """Return every table of the report."""
    options = [tables.options_table(passages, shown, plans.get(passages)) for passages, shown in candidates.items()]
    return [
        tables.plan_table(plans),
        tables.cost_table(plans, prices),
        tables.failure_table(plans),
        tables.indexing_table(list(candidates), plans, constants, prices),
        *options,
        tables.kinds_table(constants),
        tables.other_constants_table(constants),
        tables.real_text_table(constants),
        tables.prices_table(prices),
        tables.sources_table(),
    ]


def measure_into(path: Path, command: str) -> None:
    """Measure the constants and replace the file.

    A PostgreSQL database that RAG_DATABASE__URL names is measured beside SQLite; it must be empty, and is left full.
    """
    from eval.scaling.measure import ONE_THREAD, Sizes, measure

    # Before torch is imported, which reads them once.
    os.environ.update(ONE_THREAD)
    constants = measure(Sizes(), command, os.environ.get("RAG_DATABASE__URL"))
    path.write_text(constants.model_dump_json(indent=1) + "\n", encoding="utf-8")
    print(f"written: {path}")


def _prices(arguments: argparse.Namespace) -> Prices:
    machine = Machine(arguments.cores, arguments.memory_gb * GB, arguments.disk_gb * GB, per_hour=arguments.machine_price)
    return Prices(
        machine, arguments.small_machine_price, arguments.gpu_price, arguments.embedding_gpu_price, arguments.storage_price
    )


def _targets(arguments: argparse.Namespace) -> Targets:
    return Targets(
        recall=arguments.recall,
        search_ms=arguments.search_ms,
        scan_ms=arguments.scan_ms,
        extrapolation=arguments.extrapolation,
        lexical_ms=arguments.lexical_ms,
        single_machine_passages=arguments.single_machine_passages,
    )


def _sizes(text: str) -> list[int]:
    return sorted({at_least_one(part) for part in text.split(",")})


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="measure the constants on this machine first")
    parser.add_argument("--constants", type=Path, default=PACKAGED, help="file of constants (default: the packaged one)")
    parser.add_argument("--update", type=Path, metavar="PAGE", help="put the tables into this page, such as docs/scaling.md")
    parser.add_argument("--passages", type=_sizes, default=list(SIZES), help="sizes, such as 1000000,10000000")
    numbers = {
        "--searches-per-s": (50.0, "searches per second at the busiest time, answers included"),
        "--answers-per-s": (5.0, "answers per second at the busiest time"),
        "--recall": (0.95, "least recall@10 of an exact search"),
        "--search-ms": (250.0, "longest 95th percentile of a search, in milliseconds"),
        "--scan-ms": (60.0, "longest work of a machine of the index for one search, in milliseconds"),
        "--extrapolation": (50.0, "how many times more rows than measured an index may have"),
        "--lexical-ms": (100.0, "longest BM25 search; beyond it, vectors alone are searched"),
        "--memory-gb": (128.0, "memory of a machine"),
        "--disk-gb": (3750.0, "NVMe of a machine"),
        "--machine-price": (1.4, "a machine, per hour"),
        "--small-machine-price": (0.2, "a machine of 4 cores, per hour"),
        "--gpu-price": (3.0, "a GPU for the engine (H100), per hour"),
        "--embedding-gpu-price": (0.8, "a GPU for embedding (L4), per hour"),
        "--storage-price": (0.08, "storage, per GB and month"),
    }
    for name, (default, meaning) in numbers.items():
        parser.add_argument(name, type=_positive, default=default, help=f"{meaning} (default: {default:g})")
    counts = {
        "--cores": (16, "cores of a machine"),
        "--single-machine-passages": (2_000_000, "passages up to which one machine without a second one is planned"),
        "--simulated": (SIMULATED_SEARCHES, "searches that are simulated per option"),
    }
    for name, (count, meaning) in counts.items():
        parser.add_argument(name, type=at_least_one, default=count, help=f"{meaning} (default: {count})")
    parser.add_argument("--seed", type=int, default=0, help="for everything drawn at random (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("reports"), help="folder for the report (default: reports)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 1 if a size has no plan."""
    return run_command("scaling_plan", _parser(), run, arguments)


if __name__ == "__main__":
    sys.exit(main())
